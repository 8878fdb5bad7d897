package otlptest

import (
	"fmt"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// Equal compares two sets of uncompressed export requests by what they say, however they were merged or
// split: as multisets of records, each with all that encloses it (resource, scope, schema URLs, and of a data
// point its metric). The error names the first differences; nil means equal.
//
// Requests of profiles are compared whole: they are never merged or split.
func Equal(sig otlp.Signal, enc otlp.Encoding, want, got [][]byte) error {
	balance := map[string]int{}
	if err := count(sig, enc, want, balance, 1); err != nil {
		return fmt.Errorf("decode what is wanted: %w", err)
	}
	if err := count(sig, enc, got, balance, -1); err != nil {
		return fmt.Errorf("decode what came: %w", err)
	}
	var missing, extra []string
	for key, n := range balance {
		if n > 0 {
			missing = append(missing, key)
		}
		if n < 0 {
			extra = append(extra, key)
		}
	}
	if len(missing)+len(extra) == 0 {
		return nil
	}
	return fmt.Errorf("%d distinct records missing%s; %d not wanted%s",
		len(missing), sample(missing), len(extra), sample(extra))
}

// sample shows one key, shortened.
func sample(keys []string) string {
	if len(keys) == 0 {
		return ""
	}
	return fmt.Sprintf(", such as %.2000q", keys[0])
}

func count(sig otlp.Signal, enc otlp.Encoding, bodies [][]byte, balance map[string]int, by int) error {
	add := func(r record) { balance[r.key] += by }
	for i, body := range bodies {
		d, err := Decode(sig, enc, body)
		switch {
		case err != nil:
			return fmt.Errorf("request %d: %w", i, err)
		case sig == otlp.Profiles && enc == otlp.Protobuf:
			balance[marshal(d.Message)] += by
		case sig == otlp.Profiles:
			balance[jsonKey(d.Tree, "")] += by
		case enc == otlp.JSON:
			if err := walkJSON(sig, d.Tree, true, add); err != nil {
				return fmt.Errorf("request %d: %w", i, err)
			}
		default:
			walkProto(sig, d.Message, true, add)
		}
	}
	return nil
}

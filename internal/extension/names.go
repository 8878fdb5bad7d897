package extension

import (
	"slices"
	"strings"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// settings are the names after OTLP_RELAY_ that are not about a destination. Some belong to the wrapper, the
// relay or a version to come; setting them is no mistake.
var settings = []string{
	"FLUSH", "FLUSH_INTERVAL", "FLUSH_TIMEOUT", "BUFFER_BYTES", "BUFFER_ITEMS", "HTTP_ADDR", "GRPC_ADDR",
	"LOG_LEVEL", "SPOOL", "SELF_METRICS", "EXEC_WRAPPER", "CONFIG",
}

// destinationSettings are the names of the OTLP exporter specification, which each signal may override.
var destinationSettings = []string{
	"ENDPOINT", "HEADERS", "PROTOCOL", "COMPRESSION", "TIMEOUT", "CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY",
}

// reportUnknown warns of OTLP_RELAY_* names that mean nothing, with the nearest one that does: a typing
// mistake must not silently leave the default in force.
func (e *environment) reportUnknown() {
	known := slices.Clone(settings)
	for _, d := range destinationSettings {
		known = append(known, d)
		for _, sig := range otlp.Signals() {
			known = append(known, strings.ToUpper(sig.String())+"_"+d)
		}
	}
	var unknown []string
	for k := range e.vars {
		if name, ok := strings.CutPrefix(k, prefix); ok && !slices.Contains(known, name) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	for _, name := range unknown {
		nearest := slices.MinFunc(known, func(a, b string) int { return distance(name, a) - distance(name, b) })
		e.warn("%s%s is not a setting of otlp-relay; did you mean %s%s?", prefix, name, prefix, nearest)
	}
}

// distance is the Levenshtein distance between two ASCII strings.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}

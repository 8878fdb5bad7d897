package extension

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// lookup finds a destination's settings: OTLP_RELAY_TRACES_X, then OTLP_RELAY_X, and, unless an endpoint of
// ours is set, the same of OTEL_EXPORTER_OTLP_. One vendor's key must never reach another: where ours and the
// standard variables name different backends for different signals, each backend gets the keys of its own family.
type lookup struct {
	e        *environment
	sig      otlp.Signal
	standard bool        // the endpoint is of OTEL_EXPORTER_OTLP_*
	missing  []reference // what the settings refer to and is not known yet
	err      error       // the first reference that is wrong
}

const standardPrefix = "OTEL_EXPORTER_OTLP_"

// keys are the settings that let somebody in.
var keys = []string{"HEADERS", "CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"}

// raw is a setting as it is written.
func (l *lookup) raw(name string) variable {
	prefixes := []string{prefix, standardPrefix}
	switch {
	case !l.standard:
		prefixes = prefixes[:1]
	case slices.Contains(keys, name) && l.e.ownEndpoint:
		prefixes = prefixes[1:]
	}
	signal := upper(l.sig) + "_"
	for _, p := range prefixes {
		for _, n := range []string{p + signal + name, p + name} {
			if v := l.e.get(n); v != "" {
				l.e.sources[signal+name] = n
				return variable{n, v, signal + name}
			}
		}
	}
	return variable{setting: signal + name}
}

// get is a setting with its references resolved; without a value where that is not possible yet.
func (l *lookup) get(name string) variable {
	v := l.raw(name)
	text, missing, err := expand(v.value, l.e.secrets, asIs)
	l.note(v, missing, err)
	if v.value = text; len(missing) > 0 {
		v.value = ""
	}
	return v
}

// note keeps what an expansion has found.
func (l *lookup) note(v variable, missing []reference, err error) {
	for _, r := range missing {
		if !slices.Contains(l.missing, r) {
			l.missing = append(l.missing, r)
		}
	}
	if l.err == nil && err != nil {
		l.err = fmt.Errorf("%s %w", v.name, err)
	}
}

// protocol reads how the backend is spoken to; empty where nothing says so.
func (l *lookup) protocol() Protocol {
	v := l.get("PROTOCOL")
	if v.value == "" {
		return ""
	}
	p := l.e.oneOf(v, string(HTTP), string(GRPC), string(HTTP), "http/json")
	if p == "http/json" {
		l.e.warn("%s=http/json is not converted to, payloads leave in the encoding they came in: set it to http/protobuf", v.name)
		return HTTP
	}
	return Protocol(p)
}

func (l *lookup) timeout() time.Duration {
	v := l.get("TIMEOUT")
	d := l.e.duration(v, defaultTimeout, maxDuration)
	if strings.HasPrefix(v.name, standardPrefix) && d > 0 && d < 100*time.Millisecond {
		l.e.warn("%s is taken as milliseconds, as the specification has it, so that an attempt ends after %v; "+
			"where your SDK reads it as seconds, set OTLP_RELAY_TIMEOUT for the extension", v.name, d)
	}
	return d
}

// compression reads what requests are compressed with.
func (l *lookup) compression() otlp.Compression {
	if l.e.oneOf(l.get("COMPRESSION"), "gzip", "gzip", "none") == "none" {
		return otlp.None
	}
	return otlp.Gzip
}

// headers reads a list in the form of W3C Baggage: k1=v1,k2=v2, values percent-encoded. A secret in a value's
// place is taken as it is; one in an entry's place is a list of its own.
func (l *lookup) headers() http.Header {
	v := l.raw("HEADERS")
	h := http.Header{}
	for i, entry := range strings.Split(v.value, ",") {
		entry = strings.TrimSpace(entry)
		if !strings.HasPrefix(entry, "${") {
			l.header(h, v, i+1, entry)
			continue
		}
		list, missing, err := expand(entry, l.e.secrets, asIs)
		if l.note(v, missing, err); err == nil && len(missing) == 0 {
			for _, entry := range strings.Split(list, ",") {
				l.header(h, v, i+1, strings.TrimSpace(entry))
			}
		}
	}
	return h
}

// header adds the n-th entry of a list. What is wrong is left out and named by its place alone: any part may be
// a secret.
func (l *lookup) header(h http.Header, v variable, n int, entry string) {
	if entry == "" {
		return
	}
	name, value, ok := strings.Cut(entry, "=")
	name = strings.TrimSpace(name)
	value, missing, err := expand(strings.TrimSpace(value), l.e.secrets, url.PathUnescape)
	switch {
	case err == errReference || err == errUnresolved:
		l.note(v, nil, err)
	case !ok || name == "" || err != nil:
		l.e.warn("%s: entry %d is not name=value with a percent-encoded value, and is left out: write name=value,name=value with %%25 for %%", v.name, n)
	default:
		l.note(v, missing, nil)
		h.Add(name, value)
	}
}

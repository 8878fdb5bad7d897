package extension

import (
	"slices"
	"strings"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// settings are the names after OTLP_RELAY_ that are not about a destination. Some belong to the wrapper or the
// relay; setting them is no mistake.
var settings = []string{
	"FLUSH", "FLUSH_INTERVAL", "FLUSH_TIMEOUT", "BUFFER_BYTES", "BUFFER_ITEMS", "HTTP_ADDR", "GRPC_ADDR",
	"LOG_LEVEL", "SPOOL", "SELF_METRICS", "EXEC_WRAPPER", "CONFIG",
}

// destinationSettings are the names of the OTLP exporter specification, which each signal may override.
var destinationSettings = []string{
	"ENDPOINT", "PROTOCOL", "INSECURE", "HEADERS", "COMPRESSION", "TIMEOUT", "CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY",
}

// Settings are the names, as they follow OTLP_RELAY_, of the settings that are not about a destination.
func Settings() []string { return slices.Clone(settings) }

// DestinationSettings are the names of those that are, which each signal may override, as TRACES_ENDPOINT.
func DestinationSettings() []string { return slices.Clone(destinationSettings) }

// everySetting is all names that mean something after OTLP_RELAY_.
func everySetting() []string {
	all := slices.Concat(settings, destinationSettings)
	for _, sig := range otlp.Signals() {
		for _, d := range destinationSettings {
			all = append(all, upper(sig)+"_"+d)
		}
	}
	return all
}

// upper is the signal as variables spell it.
func upper(sig otlp.Signal) string { return strings.ToUpper(sig.String()) }

// reportUnknown warns of names that mean nothing but look like ours, with the one that is likely to be meant: a
// typing mistake must not silently leave the default in force.
func (e *environment) reportUnknown() {
	all := everySetting()
	var unknown []string
	for k := range e.vars {
		if name, ours := strings.CutPrefix(k, prefix); ours && !slices.Contains(all, name) || !ours && likePrefix(k) {
			unknown = append(unknown, k)
		}
	}
	slices.Sort(unknown)
	for _, k := range unknown {
		e.report(k, all)
	}
}

// likePrefix says whether a name begins with what may be a misspelled OTLP_RELAY_.
func likePrefix(k string) bool {
	if len(k) <= len(prefix) || k[0]|0x20 != 'o' { // cheap, and true of nearly all
		return false
	}
	return distance(strings.ToUpper(k[:len(prefix)]), prefix) <= 2
}

// report warns of a name that is not read, with the nearest of all that are.
func (e *environment) report(k string, all []string) {
	if name, ours := strings.CutPrefix(k, prefix); ours {
		if near := nearest(strings.ToUpper(name), all); near != "" {
			e.warn("%s is not a setting of otlp-relay; did you mean %s%s?", k, prefix, near)
		} else {
			e.warn("%s is not a setting of otlp-relay: remove it; relayctl env lists those there are", k)
		}
		return
	}
	for _, name := range all { // of which shorter ones come first: TRACES_ENDPOINT ends with ENDPOINT
		head, ok := strings.CutSuffix(strings.ToUpper(k), name)
		if ok && distance(head, prefix) <= 2 {
			e.warn("%s is not read: did you mean %s%s?", k, prefix, name)
			return
		}
	}
}

// nearest is the word that v is likely to be meant for; empty where none is near.
func nearest(v string, words []string) string {
	best, least := "", len(v)
	for _, w := range words {
		d := min(distance(v, w), distance(sortedWords(v), sortedWords(w)))
		if d < least && d <= max(1, max(len(v), len(w))/3) {
			best, least = w, d
		}
	}
	return best
}

// sortedWords makes names equal that differ in the order of their words, as ENDPOINT_TRACES.
func sortedWords(name string) string {
	words := strings.Split(name, "_")
	slices.Sort(words)
	return strings.Join(words, "_")
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

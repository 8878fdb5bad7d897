package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// ledger is the sum of the ledger lines that extensions logged, by dotted name: traces.accepted.records,
// logs.dropped.queue_full.bytes. Each incarnation logs one. It is nil where there was no such line.
type ledger map[string]int64

// readLedger finds the lines in what the processes printed, in slog's text and JSON forms alike.
func readLedger(events []lambdasim.Event) ledger {
	var sum ledger
	for _, ev := range events {
		if ev.Kind != lambdasim.KindLog || ev.Process == lambdasim.FunctionProcess {
			continue
		}
		attrs := parseAttrs(ev.Text)
		if attrs["msg"] != "ledger" {
			continue
		}
		if sum == nil {
			sum = ledger{}
		}
		for k, v := range attrs {
			if n, err := strconv.ParseInt(v, 10, 64); err == nil {
				sum[k] += n
			}
		}
	}
	return sum
}

// parseAttrs reads a log line's attributes. A line in another form has none that matter.
func parseAttrs(line string) map[string]string {
	attrs := map[string]string{}
	if _, object, ok := strings.Cut(line, "{"); ok {
		dec := json.NewDecoder(strings.NewReader("{" + object))
		dec.UseNumber()
		var v map[string]any
		if dec.Decode(&v) == nil {
			flatten(attrs, "", v)
			return attrs
		}
	}
	for _, field := range strings.Fields(line) {
		if k, v, ok := strings.Cut(field, "="); ok {
			attrs[k] = strings.Trim(v, `"`)
		}
	}
	return attrs
}

func flatten(dst map[string]string, prefix string, object map[string]any) {
	for k, v := range object {
		if inner, ok := v.(map[string]any); ok {
			flatten(dst, prefix+k+".", inner)
		} else {
			dst[prefix+k] = fmt.Sprint(v)
		}
	}
}

// dropped are the records of a signal that were dropped, with the reasons.
func (l ledger) dropped(sig otlp.Signal) (total int64, reasons string) {
	prefix := sig.String() + ".dropped."
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(l)) {
		reason, ok := strings.CutPrefix(k, prefix)
		reason, records := strings.CutSuffix(reason, ".records")
		if ok && records && l[k] > 0 {
			total += l[k]
			parts = append(parts, fmt.Sprintf("%s %d", reason, l[k]))
		}
	}
	return total, strings.Join(parts, ", ")
}

// printLedger sets what the extension says it delivered against what the backend counted. backend may be nil.
func printLedger(out io.Writer, l ledger, backend *otlptest.Backend) {
	if l == nil {
		fmt.Fprintln(out, "\nno extension logged a ledger line")
	}
	titles := false
	for _, sig := range otlp.Signals() {
		var has *int64
		if backend != nil {
			n := int64(backend.Totals(sig).Records)
			has = &n
		}
		if l[sig.String()+".accepted.records"] == 0 && (has == nil || *has == 0) {
			continue
		}
		if !titles {
			fmt.Fprintf(out, "\n%-10s %10s %10s %10s %10s %12s\n", "records", "accepted", "delivered", "queued", "dropped", "backend has")
			titles = true
		}
		fmt.Fprintln(out, l.row(sig, has))
	}
}

// row is one signal's account; backend is what arrived there, nil where nobody counted. One of the two exists.
func (l ledger) row(sig otlp.Signal, backend *int64) string {
	name := sig.String()
	if l == nil {
		return fmt.Sprintf("%-10s %10s %10s %10s %10s %12d", name, "-", "-", "-", "-", *backend)
	}
	accepted, delivered, queued := l[name+".accepted.records"], l[name+".delivered.records"], l[name+".queued.records"]
	dropped, reasons := l.dropped(sig)
	has, note := "-", ""
	if backend != nil {
		has = strconv.FormatInt(*backend, 10)
	}
	off := accepted + l[name+".replayed.records"] - delivered - queued - dropped - l[name+".spooled.records"]
	switch {
	case off != 0:
		note = fmt.Sprintf("  the ledger does not balance: %+d", off)
	case backend != nil && *backend != delivered:
		note = fmt.Sprintf("  the backend differs: %+d", *backend-delivered)
	}
	if reasons != "" {
		note += "  dropped: " + reasons
	}
	return fmt.Sprintf("%-10s %10d %10d %10d %10d %12s%s", name, accepted, delivered, queued, dropped, has, note)
}

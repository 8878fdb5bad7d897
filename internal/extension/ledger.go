package extension

import (
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// amount is a number of records and the accepted bytes they came in, uncompressed.
type amount struct{ records, bytes int64 }

func (a *amount) add(records, bytes int) {
	a.records += int64(records)
	a.bytes += int64(bytes)
}

func (a amount) attr(name string) slog.Attr {
	return slog.Group(name, "records", a.records, "bytes", a.bytes)
}

// loss is what one reason has cost a signal.
type loss struct {
	amount
	cause    error // of the last drop; nil where the reason says it all
	reported int64 // records, when it was last logged
}

// entry is one signal's account.
type entry struct {
	accepted, delivered amount
	replayed, spooled   amount // of an earlier process's spool, and for a later one
	dropped             map[otlp.Reason]*loss
}

// carried says whether the signal ever had a record.
func (e *entry) carried() bool { return e.accepted.records > 0 || e.replayed.records > 0 }

// ledger counts every record's fate. Its invariant is
//
//	accepted + replayed = delivered + queued + spooled + Σ dropped{reason}
//
// in records and bytes, per signal. What one process spools the next one replays, so that over all processes of an
// environment accepted = delivered + Σ dropped + what the last one spooled. It is safe for concurrent use.
type ledger struct {
	mu      sync.Mutex
	entries [otlp.SignalCount]entry
}

func (l *ledger) accept(p otlp.Payload) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries[p.Signal].accepted.add(p.Records, p.Size)
}

// replay counts what an earlier process left.
func (l *ledger) replay(sig otlp.Signal, records, bytes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries[sig].replayed.add(records, bytes)
}

// keep counts what is left to a later process.
func (l *ledger) keep(sig otlp.Signal, records, bytes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries[sig].spooled.add(records, bytes)
}

// deliver counts records that the backend took.
func (l *ledger) deliver(sig otlp.Signal, records, bytes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries[sig].delivered.add(records, bytes)
}

// drop counts lost records. cause is the error behind the loss, or nil.
func (l *ledger) drop(sig otlp.Signal, why otlp.Reason, records, bytes int, cause error) {
	if records == 0 && cause == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e := &l.entries[sig]
	if e.dropped == nil {
		e.dropped = map[otlp.Reason]*loss{}
	}
	d := e.dropped[why]
	if d == nil {
		d = &loss{}
		e.dropped[why] = d
	}
	d.add(records, bytes)
	d.cause = cause
}

// report logs what was lost since it was last called: the first loss for each reason, and then each time its
// count has grown tenfold, so that a lasting fault does not flood the log.
func (l *ledger) report(log *slog.Logger) {
	for _, args := range l.news() {
		log.Warn("records dropped", args...)
	}
}

// news is what report has to say. It is apart so that no request waits for the log.
func (l *ledger) news() (lines [][]any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, sig := range otlp.Signals() {
		for why, d := range l.entries[sig].dropped {
			if d.records >= max(1, 10*d.reported) {
				d.reported = d.records
				line := []any{"signal", sig.String(), "reason", string(why), "records", d.records}
				if d.cause != nil {
					line = append(line, "cause", d.cause)
				}
				lines = append(lines, line)
			}
		}
	}
	return lines
}

// carried says whether the signal ever had a record.
func (l *ledger) carried(sig otlp.Signal) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entries[sig].carried()
}

// attrs is the account of every signal that had records, as the ledger line shows it. queued is asked for
// what is still in the queue; balanced says whether the invariant holds.
func (l *ledger) attrs(queued func(otlp.Signal) (records, bytes int)) (attrs []slog.Attr, balanced bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	balanced = true
	for _, sig := range otlp.Signals() {
		e := &l.entries[sig]
		var q amount
		q.add(queued(sig))
		sum := amount{e.delivered.records + e.spooled.records + q.records, e.delivered.bytes + e.spooled.bytes + q.bytes}
		var dropped []any
		for _, why := range slices.Sorted(maps.Keys(e.dropped)) {
			a := e.dropped[why]
			sum.records += a.records
			sum.bytes += a.bytes
			dropped = append(dropped, a.attr(string(why)))
		}
		balanced = balanced && sum == amount{e.accepted.records + e.replayed.records, e.accepted.bytes + e.replayed.bytes}
		if !e.carried() {
			continue
		}
		args := []any{e.accepted.attr("accepted"), e.delivered.attr("delivered"), q.attr("queued")}
		if e.replayed.records > 0 {
			args = append(args, e.replayed.attr("replayed"))
		}
		if e.spooled.records > 0 {
			args = append(args, e.spooled.attr("spooled"))
		}
		attrs = append(attrs, slog.Group(sig.String(), append(args, slog.Group("dropped", dropped...))...))
	}
	return attrs, balanced
}

// metrics is the account as OTLP metrics: records and bytes, by signal and, where they were dropped, by reason.
func (l *ledger) metrics() []otlp.Metric {
	counter := func(name, unit, description string) otlp.Metric {
		return otlp.Metric{Name: name, Unit: unit, Description: description, Kind: otlp.CounterMetric}
	}
	records := [...]otlp.Metric{
		counter("otlp_relay.records.accepted", "{record}", "Spans, data points and log records taken from the function"),
		counter("otlp_relay.records.delivered", "{record}", "Records that the backend took"),
		counter("otlp_relay.records.dropped", "{record}", "Records lost for good"),
		counter("otlp_relay.records.replayed", "{record}", "Records that an earlier process of the environment left in the spool"),
	}
	size := [...]otlp.Metric{
		counter("otlp_relay.accepted.size", "By", "Uncompressed bytes of the requests taken from the function"),
		counter("otlp_relay.delivered.size", "By", "Uncompressed bytes that the backend took"),
		counter("otlp_relay.dropped.size", "By", "Uncompressed bytes lost for good"),
		counter("otlp_relay.replayed.size", "By", "Uncompressed bytes that an earlier process of the environment left in the spool"),
	}
	add := func(i int, a amount, attrs ...otlp.Attribute) {
		records[i].Points = append(records[i].Points, otlp.Point{Attributes: attrs, Value: a.records})
		size[i].Points = append(size[i].Points, otlp.Point{Attributes: attrs, Value: a.bytes})
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, sig := range otlp.Signals() {
		e := &l.entries[sig]
		if !e.carried() {
			continue
		}
		signal := otlp.Attribute{Key: "signal", Text: sig.String()}
		add(0, e.accepted, signal)
		add(1, e.delivered, signal)
		for _, why := range slices.Sorted(maps.Keys(e.dropped)) {
			add(2, e.dropped[why].amount, signal, otlp.Attribute{Key: "reason", Text: string(why)})
		}
		if e.replayed.records > 0 {
			add(3, e.replayed, signal)
		}
	}
	return append(records[:], size[:]...)
}

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// panel is one picture: time runs from left to right, one lane below the other. Lengths are SVG's units.
type panel struct {
	Name, Note    string
	Width, Height float64
	Boxes         []box // in the order of drawing
	Dots          []dot
	Areas         []area
	Labels        []label
}

type box struct {
	X, Y, W, H float64
	Class, Tip string
}

type dot struct {
	X, Y       float64
	Class, Tip string
}

type area struct{ Path, Class string }

type label struct {
	X, Y        float64
	Class, Text string
}

// The lanes, from above. Requests take a row for each signal.
const (
	panelWidth = 1160.0
	laneLeft   = 150.0
	laneRight  = panelWidth - 14

	yTop     = 20.0
	yLambda  = 30.0
	hLambda  = 26.0
	ySDK     = 68.0
	yBackend = 112.0
	hRow     = 9.0
	rowStep  = 11.0
	yWaiting = 168.0
	hWaiting = 34.0
	yEvents  = 218.0
	yBottom  = 230.0
	yAxis    = 244.0
	panelH   = 250.0

	charWidth = 6.2 // of a label
)

// painter draws one panel.
type painter struct {
	run    *demoRun
	window interval
	scale  scale
	panel
}

// newPanel draws what happened in a window of time.
func newPanel(run *demoRun, name, note string, window interval) panel {
	p := &painter{run: run, window: window, panel: panel{Name: name, Note: note, Width: panelWidth, Height: panelH}}
	frozen := freezes(run)
	p.scale = newScale(window, p.moments(frozen), frozen, laneLeft, laneRight)
	for _, b := range []struct {
		y    float64
		text string
	}{
		{yLambda + 17, "Lambda"}, {ySDK + 18, "SDK → extension"}, {yBackend + 18, "extension → backend"},
		{yWaiting + 20, "records waiting"}, {yEvents + 4, "events"},
	} {
		p.text(laneLeft-12, b.y, "lane", b.text)
	}
	p.background()
	p.outages()
	for _, inv := range p.invocations() {
		p.invocation(inv)
	}
	p.lifecycle()
	p.requests(ySDK, "handed to the extension", run.Handed)
	p.requests(yBackend, "sent to the backend", run.Delivered)
	p.waiting()
	p.events()
	p.ruler()
	return p.panel
}

// moments are the times at which something in the window begins or ends.
func (p *painter) moments(frozen []interval) []time.Time {
	var ts []time.Time
	for _, f := range frozen {
		ts = append(ts, f.from, f.to)
	}
	for _, inv := range p.invocations() {
		ts = append(ts, inv.Start, inv.RuntimeDone, inv.End)
		if inv.Init != nil {
			ts = append(ts, inv.Init.Start, inv.Init.End)
		}
		if inv.Reset != nil {
			ts = append(ts, inv.Reset.Start, inv.Reset.End)
		}
	}
	for _, x := range slices.Concat(p.run.Handed, p.run.Delivered) {
		ts = append(ts, x.From, x.To)
	}
	return append(ts, p.run.Init.Start, p.run.Init.End, p.run.Shutdown.Start, p.run.Shutdown.End)
}

// invocations are those of the window.
func (p *painter) invocations() []demoInvocation {
	var all []demoInvocation
	for _, ph := range p.run.Phases {
		for _, inv := range ph.Invocations {
			if p.overlaps(inv.Start, inv.End) {
				all = append(all, inv)
			}
		}
	}
	return all
}

func (p *painter) overlaps(from, to time.Time) bool {
	return !to.Before(p.window.from) && !from.After(p.window.to)
}

// bar draws a stretch of time, with the first of words in it that there is room for.
func (p *painter) bar(from, to time.Time, y, h float64, class, tip string, words ...string) {
	if from.IsZero() || to.Before(from) || !p.overlaps(from, to) {
		return
	}
	x0, x1 := p.scale.x(from), p.scale.x(to)
	p.Boxes = append(p.Boxes, box{X: x0, Y: y, W: max(x1-x0, 1.5), H: h, Class: class, Tip: tip})
	for _, word := range words {
		if x1-x0 > float64(len(word))*charWidth+6 {
			p.text((x0+x1)/2, y+h/2+4, "in", word)
			return
		}
	}
}

func (p *painter) text(x, y float64, class, s string) {
	p.Labels = append(p.Labels, label{X: x, Y: y, Class: class, Text: s})
}

// background hatches the freezes and marks the breaks of the axis.
func (p *painter) background() {
	for _, pc := range p.scale.pieces {
		w := pc.x1 - pc.x0
		switch {
		case pc.frozen:
			p.Boxes = append(p.Boxes, box{X: pc.x0, Y: yTop, W: w, H: yBottom - yTop, Class: "frozen",
				Tip: "frozen for " + span(pc.length()) + ": no thread of function or extension runs"})
		case pc.broken:
			p.Boxes = append(p.Boxes, box{X: pc.x0, Y: yTop, W: w, H: yBottom - yTop, Class: "quiet",
				Tip: span(pc.length()) + " in which nothing happened, drawn shorter"})
		}
		if word := span(pc.length()); pc.broken && w > float64(len(word))*5.4 {
			p.text((pc.x0+pc.x1)/2, yTop-6, "gap", word)
		}
	}
}

// outages tint the lanes of the backend.
func (p *painter) outages() {
	for _, o := range p.run.Outages {
		p.bar(o.From, o.To, yBackend-6, 3*rowStep+25, "outage", o.What)
		if p.overlaps(o.From, o.To) {
			p.text(max(p.scale.x(o.From), laneLeft)+6, yBackend+3*rowStep+13, "outage", o.What)
		}
	}
}

// invocation draws what the client's invocation consists of.
func (p *painter) invocation(inv demoInvocation) {
	from := inv.Start
	if inv.Init != nil {
		from = inv.Init.End
		p.bar(inv.Init.Start, inv.Init.End, yLambda, hLambda, "init", "a new init inside the invocation: "+span(inv.Init.Duration()), "init "+span(inv.Init.Duration()), "init")
	}
	if inv.Status == lambdasim.StatusTimeout {
		p.bar(from, inv.End, yLambda, hLambda, "timeout", "the function timed out after "+span(inv.Billed()), "function hangs until its timeout", "timeout")
	} else {
		p.bar(from, inv.RuntimeDone, yLambda, hLambda, "handler",
			fmt.Sprintf("handler: %s; response after %s", span(inv.RuntimeDone.Sub(from)), span(inv.ResponseTime())),
			"handler "+span(inv.RuntimeDone.Sub(from)), "handler")
	}
	if inv.Added() > 0 {
		p.bar(inv.RuntimeDone, inv.End, yLambda, hLambda, "held", "held by the extension for "+span(inv.Added()),
			"held "+span(inv.Added()), "held")
	}
	if inv.Reset != nil {
		p.bar(inv.Reset.Start, inv.Reset.End, yLambda, hLambda, "end",
			"the environment is ended, which takes "+span(inv.Reset.End.Sub(inv.Reset.Start)), "reset")
	}
}

// lifecycle draws the first init and the shutdown.
func (p *painter) lifecycle() {
	i, s := p.run.Init, p.run.Shutdown
	p.bar(i.Start, i.End, yLambda, hLambda, "init", "init phase: "+span(i.Duration()), "init "+span(i.Duration()), "init")
	p.bar(s.Start, s.End, yLambda, hLambda, "end",
		fmt.Sprintf("shutdown: %s of %s", span(s.End.Sub(s.Start)), span(s.Window)), "shutdown")
}

// requests draws one lane of OTLP requests.
func (p *painter) requests(y float64, what string, all []exchange) {
	for _, x := range all {
		row := map[otlp.Signal]float64{otlp.Traces: 0, otlp.Metrics: 1, otlp.Logs: 2}[x.Signal]
		class, answer := x.Signal.String(), fmt.Sprintf("answer %d", x.Status)
		if !x.Taken {
			class = "failed"
		}
		if x.Status == 0 {
			answer = "no answer"
		}
		tip := fmt.Sprintf("%s: %d records %s at %s, %s", x.Signal, len(x.Records), what, p.clock(x.From), answer)
		p.bar(x.From, x.To, y+row*rowStep, hRow, class, tip)
	}
}

// level is how many records the extension holds from a time on.
type level struct {
	at      time.Time
	records int
}

// levels are those in the window; the first is at its beginning.
func (p *painter) levels() []level {
	var steps []level
	for _, x := range p.run.Handed {
		if x.Taken {
			steps = append(steps, level{x.To, len(x.Records)})
		}
	}
	for _, x := range p.run.Delivered {
		if x.Taken {
			steps = append(steps, level{x.To, -len(x.Records)})
		}
	}
	slices.SortStableFunc(steps, func(a, b level) int { return a.at.Compare(b.at) })
	all, now := []level{{p.window.from, 0}}, 0
	for _, s := range steps {
		now += s.records
		if s.at.Before(p.window.from) {
			all[0].records = now
		} else if !s.at.After(p.window.to) {
			all = append(all, level{s.at, now})
		}
	}
	return all
}

// waiting draws how many records the extension holds.
func (p *painter) waiting() {
	levels, peak := p.levels(), 0
	for _, l := range levels {
		peak = max(peak, l.records)
	}
	if peak == 0 {
		return
	}
	base := yWaiting + hWaiting
	var path strings.Builder
	fmt.Fprintf(&path, "M%.1f %.1f", laneLeft, base)
	for i, l := range levels {
		end := p.window.to
		if i+1 < len(levels) {
			end = levels[i+1].at
		}
		y := base - hWaiting*float64(max(0, l.records))/float64(peak)
		fmt.Fprintf(&path, "L%.1f %.1fL%.1f %.1f", p.scale.x(l.at), y, p.scale.x(end), y)
	}
	fmt.Fprintf(&path, "L%.1f %.1fZ", p.scale.x(p.window.to), base)
	p.Areas = append(p.Areas, area{Path: path.String(), Class: "waiting"})
	p.text(laneLeft-12, yWaiting+33, "small", fmt.Sprintf("at most %d", peak))
}

// events are dots with words: the life of the processes, and what the extension logged.
func (p *painter) events() {
	for _, ev := range p.run.Events {
		if ev.At.Before(p.window.from) || ev.At.After(p.window.to) {
			continue
		}
		if class, tip := describe(ev); class != "" {
			p.Dots = append(p.Dots, dot{X: p.scale.x(ev.At), Y: yEvents, Class: class, Tip: p.clock(ev.At) + ": " + tip})
		}
	}
}

// ruler writes the times below at which an even stretch begins.
func (p *painter) ruler() {
	last, even := laneLeft-100, false
	for _, pc := range p.scale.pieces {
		begins := !pc.broken && !pc.frozen && !even
		even = !pc.broken && !pc.frozen
		if x := pc.x0; begins && x-last >= 46 {
			p.Boxes = append(p.Boxes, box{X: x, Y: yBottom, W: 1, H: 4, Class: "tick"})
			p.text(x, yAxis, "time", p.clock(pc.from))
			last = x
		}
	}
}

// clock is a time since the demo began.
func (p *painter) clock(t time.Time) string {
	return fmt.Sprintf("%.2f s", t.Sub(p.run.Start).Seconds())
}

// span is a length of time in the fewest characters that tell it.
func span(d time.Duration) string {
	switch {
	case d >= time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d >= 10*time.Millisecond:
		return fmt.Sprintf("%.0f ms", milli(d))
	}
	return fmt.Sprintf("%.1f ms", milli(d))
}

// freezes are the times in which nothing ran.
func freezes(run *demoRun) []interval {
	var all []interval
	var since time.Time
	for _, ev := range run.Events {
		switch {
		case ev.Kind == lambdasim.KindFreeze:
			since = ev.At
		case ev.Kind == lambdasim.KindThaw && !since.IsZero():
			all = append(all, interval{since, ev.At.Add(-ev.Duration)})
			since = time.Time{}
		}
	}
	return all
}

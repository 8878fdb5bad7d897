package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
)

func render(t *testing.T, run *demoRun) string {
	t.Helper()
	page, err := renderDemoPage(run, newDemoReport(run))
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

func TestPageIsTheSameForTheSameRun(t *testing.T) {
	if a, b := render(t, madeUpRun()), render(t, madeUpRun()); a != b {
		t.Error("the same run made two different pages")
	}
}

// A picture is an SVG inside HTML. Read as XML it shows a tag that is not closed or an attribute that is broken.
func TestPicturesAreWellFormed(t *testing.T) {
	pictures := regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(render(t, madeUpRun()), -1)
	if len(pictures) < 3 {
		t.Fatalf("%d pictures, want the overview and two panels at least", len(pictures))
	}
	for i, p := range pictures {
		dec := xml.NewDecoder(strings.NewReader(p))
		for {
			_, err := dec.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("picture %d: %v", i, err)
			}
		}
	}
}

func TestPageShowsWhatHappened(t *testing.T) {
	page := render(t, madeUpRun())
	for _, want := range []string{
		"<title>held by the extension for 26 ms</title>",
		"<title>traces: 2 records sent to the backend at 0.10 s, answer 503</title>",
		"<title>traces: 2 records handed to the extension at 0.10 s, answer 200</title>",
		"<title>frozen for 20 ms: no thread of function or extension runs</title>",
		"<title>the function timed out after 1.5 s</title>",
		"the platform told the extension that the handler is done",
		"the backend answers 503</text>",
		"1 more died with the function",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestPageNeedsNoNetwork(t *testing.T) {
	page := render(t, madeUpRun())
	if found := regexp.MustCompile(`(?i)https?://|//[a-z]+\.|@import|<link|src=|url\([^#]`).FindString(page); found != "" {
		t.Errorf("the page refers to something outside itself: %q", found)
	}
}

func TestPageEscapesWhatProcessesPrint(t *testing.T) {
	run := madeUpRun()
	at := run.Phases[0].From.Add(time.Millisecond)
	hostile := `</title></svg><script>alert("1")</script>`
	run.Events = append(run.Events,
		lambdasim.Event{At: at, Kind: lambdasim.KindLog, Process: "otlp-relay", Text: hostile},
		lambdasim.Event{At: at, Kind: lambdasim.KindExit, Process: hostile, Text: hostile})
	run.Outages[0].What = hostile
	run.Mode = hostile
	if page := render(t, run); strings.Contains(page, "<script>alert") {
		t.Error("what a process printed went into the page as markup")
	}
}

func TestPageSaysWhenACheckFailed(t *testing.T) {
	run := madeUpRun()
	run.Delivered = nil
	if page := render(t, run); !strings.Contains(page, `class="verdict bad"`) || !strings.Contains(page, "records of traces are lost") {
		t.Error("a run with losses makes a page that does not say so")
	}
}

func TestScaleKeepsOrderAndShortensQuietTimes(t *testing.T) {
	t0 := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	at := func(ms int) time.Time { return t0.Add(time.Duration(ms) * time.Millisecond) }
	window := interval{at(0), at(2100)}
	s := newScale(window, []time.Time{at(50), at(2050), at(2060), at(-5), at(9999)}, []interval{{at(50), at(2050)}}, 100, 1100)

	last := -1.0
	for ms := range 2101 {
		x := s.x(at(ms))
		if x < last {
			t.Fatalf("x(%d ms) = %.1f, left of %.1f one millisecond earlier", ms, x, last)
		}
		last = x
	}
	if a, b := s.x(at(0)), s.x(at(2100)); a != 100 || b < 1099.9 || b > 1100.1 {
		t.Errorf("the window goes from %.1f to %.1f, want 100 to 1100", a, b)
	}
	if a, b := s.x(at(-1000)), s.x(at(5000)); a != 100 || b > 1100.1 {
		t.Errorf("times outside the window lie at %.1f and %.1f, want its ends", a, b)
	}
	if frozen := s.x(at(2050)) - s.x(at(50)); frozen > 100 {
		t.Errorf("two frozen seconds take %.1f of 1000, want them shortened", frozen)
	}
	var broken, even int
	for _, p := range s.pieces {
		if p.broken != p.frozen {
			t.Errorf("piece %v: broken %v, frozen %v", p.length(), p.broken, p.frozen)
		}
		if p.broken {
			broken++
		} else {
			even++
		}
	}
	if broken != 1 || even != 3 {
		t.Errorf("%d broken and %d even pieces, want 1 and 3", broken, even)
	}
}

func TestScaleDoesNotLengthenWhatIsShort(t *testing.T) {
	t0 := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	s := newScale(interval{t0, t0.Add(200 * time.Millisecond)}, []time.Time{t0.Add(150 * time.Millisecond)}, nil, 0, 20)
	for _, p := range s.pieces {
		if p.broken {
			t.Errorf("%v in a narrow picture is drawn as a break, which would be wider than it", p.length())
		}
	}
}

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	p := &progress{out: &out}
	p.phase(false, "frequent %d", 1)
	p.phase(true, "frequent %d", 2)
	if got := out.String(); got != "frequent 2\n" {
		t.Errorf("into a file progress wrote %q, want the last word of the phase only", got)
	}
	out.Reset()
	p.live = true
	p.phase(false, "frequent %d", 1)
	p.phase(true, "frequent %d", 2)
	if got := out.String(); got != "\r\x1b[Kfrequent 1\r\x1b[Kfrequent 2\n" {
		t.Errorf("on a terminal progress wrote %q, want one line, rewritten", got)
	}
}

package main

import (
	"math"
	"slices"
	"time"
)

// interval is a stretch of time.
type interval struct{ from, to time.Time }

func (i interval) length() time.Duration { return i.to.Sub(i.from) }

// piece is a part of the axis on which time runs evenly.
type piece struct {
	interval
	x0, x1 float64
	broken bool // nothing happens in it: it is drawn shorter than it was
	frozen bool
}

// scale puts times on a horizontal axis. Where nothing happens for long, frozen or not, the axis is broken: so
// that milliseconds remain visible beside seconds.
type scale struct {
	pieces []piece
	perMS  float64 // width of a millisecond where the axis is not broken
}

// Shorter stretches are never drawn shorter than they were.
const (
	minFrozen = 45 * time.Millisecond
	minQuiet  = 120 * time.Millisecond
)

// newScale spreads a window of time over x0 to x1. busy are the moments at which something begins or ends.
func newScale(window interval, busy []time.Time, frozen []interval, x0, x1 float64) scale {
	marks := []time.Time{window.from, window.to}
	for _, t := range busy {
		if t.After(window.from) && t.Before(window.to) {
			marks = append(marks, t)
		}
	}
	slices.SortFunc(marks, time.Time.Compare)
	var s scale
	for i, t := range marks[1:] {
		p := piece{interval: interval{marks[i], t}}
		middle := p.from.Add(p.length() / 2)
		p.frozen = slices.ContainsFunc(frozen, func(f interval) bool { return middle.After(f.from) && middle.Before(f.to) })
		p.broken = p.length() >= minQuiet || p.frozen && p.length() >= minFrozen
		s.pieces = append(s.pieces, p)
	}
	s.stretch(x1 - x0)
	x := x0
	for i := range s.pieces {
		p := &s.pieces[i]
		p.x0 = x
		x += s.width(*p)
		p.x1 = x
	}
	return s
}

// stretch finds the width of a millisecond. A break that would not make its piece shorter is none.
func (s *scale) stretch(width float64) {
	for {
		var even time.Duration
		rest := width
		for _, p := range s.pieces {
			if p.broken {
				rest -= brokenWidth(p.length())
			} else {
				even += p.length()
			}
		}
		s.perMS = max(0, rest) / max(milli(even), 1)
		changed := false
		for i, p := range s.pieces {
			if p.broken && milli(p.length())*s.perMS <= brokenWidth(p.length()) {
				s.pieces[i].broken, changed = false, true
			}
		}
		if !changed {
			return
		}
	}
}

func (s *scale) width(p piece) float64 {
	if p.broken {
		return brokenWidth(p.length())
	}
	return milli(p.length()) * s.perMS
}

// brokenWidth grows slowly with the time that it stands for.
func brokenWidth(d time.Duration) float64 {
	return min(64, 14+9*math.Log2(milli(d)/milli(minFrozen)+1))
}

// x is the place of t; times outside the window are put at its ends.
func (s *scale) x(t time.Time) float64 {
	for _, p := range s.pieces {
		if !t.After(p.to) {
			if t.Before(p.from) || p.length() == 0 {
				return p.x0
			}
			return p.x0 + (p.x1-p.x0)*float64(t.Sub(p.from))/float64(p.length())
		}
	}
	return s.pieces[len(s.pieces)-1].x1
}

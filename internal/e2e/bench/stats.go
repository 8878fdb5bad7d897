package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// sample is what was measured again and again, in any unit.
type sample []float64

func (s *sample) add(v float64) { *s = append(*s, v) }

// addTime adds a duration in milliseconds.
func (s *sample) addTime(d time.Duration) { s.add(float64(d) / float64(time.Millisecond)) }

// quantile is the smallest value that the fraction q of the sample does not exceed; NaN without a sample.
func (s sample) quantile(q float64) float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// mean is NaN without a sample.
func (s sample) mean() float64 {
	sum := 0.0
	for _, v := range s {
		sum += v
	}
	return sum / float64(len(s))
}

func (s sample) median() float64 { return s.quantile(0.5) }
func (s sample) p99() float64    { return s.quantile(0.99) }

// number is v with three digits that count; a dash for what was not measured.
func number(v float64) string {
	abs := math.Abs(v)
	switch {
	case math.IsNaN(v):
		return "–"
	case abs >= 100:
		return fmt.Sprintf("%.0f", v)
	case abs >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// spread is the median and the 99th percentile.
func (s sample) spread() string { return number(s.median()) + " / " + number(s.p99()) }

// ratio is a/b as a table shows it.
func ratio(a, b float64) string {
	if math.IsNaN(a/b) || math.IsInf(a/b, 0) {
		return "–"
	}
	return fmt.Sprintf("%.2f×", a/b)
}

// verdict says whether a figure reaches its goal.
func verdict(figure, most float64) string {
	switch {
	case math.IsNaN(figure):
		return "not measured"
	case figure <= most:
		return "met"
	}
	return "**missed**"
}

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// progress tells a person how things go: a line that is rewritten on a terminal, whole lines elsewhere.
type progress struct {
	out  io.Writer
	live bool
}

func newProgress(out io.Writer) *progress {
	p := &progress{out: out}
	if f, ok := out.(*os.File); ok {
		info, err := f.Stat()
		p.live = err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
	}
	return p
}

// line writes a line.
func (p *progress) line(format string, args ...any) { fmt.Fprintf(p.out, format+"\n", args...) }

// phase writes how a phase goes; done says that this is its last word.
func (p *progress) phase(done bool, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	switch {
	case p.live && done:
		fmt.Fprintf(p.out, "\r\x1b[K%s\n", text)
	case p.live:
		fmt.Fprintf(p.out, "\r\x1b[K%s", strings.TrimRight(text, " "))
	case done:
		fmt.Fprintln(p.out, text)
	}
}

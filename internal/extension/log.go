package extension

import (
	"io"
	"log/slog"
)

// newLogger writes what users read in CloudWatch: one line at start, for each change of state and at
// shutdown. Lambda stamps lines with its own time in text format. hide goes over each attribute; nil leaves them.
func newLogger(w io.Writer, level string, json bool, hide func([]string, slog.Attr) slog.Attr) *slog.Logger {
	var l slog.Level
	_ = l.UnmarshalText([]byte(level)) // ParseConfig let only levels through; the zero Level is info
	opts := &slog.HandlerOptions{Level: l, ReplaceAttr: hide}
	var h slog.Handler = slog.NewTextHandler(w, opts)
	if json {
		h = slog.NewJSONHandler(w, opts)
	}
	return slog.New(h).With("extension", "otlp-relay")
}

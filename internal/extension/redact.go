package extension

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// redactor keeps resolved secrets out of the log: errors of the network may repeat a host, and backends whatever
// they were told. The zero value hides nothing. It is safe for concurrent use.
type redactor struct {
	mu    sync.RWMutex
	words []string // the longest first
}

// A secret is hidden from 4 bytes on, a part of one from 8: what is shorter is none, and hiding it would garble the log.
const minSecret, minPart = 4, 8

// hide hides a secret and what it is made of, be it a URL, a list of headers or a scheme with a token, escaped or not.
func (r *redactor) hide(secret string) {
	plain, _ := url.PathUnescape(secret)
	parts := strings.FieldsFunc(strings.ReplaceAll(secret, "%20", " ")+" "+plain, separates)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(secret) >= minSecret {
		r.words = append(r.words, secret)
	}
	for _, w := range parts {
		if len(w) >= minPart {
			r.words = append(r.words, w)
		}
	}
	slices.SortFunc(r.words, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
}

func separates(c rune) bool { return strings.ContainsRune(" ,;=:/@?&#\t\r\n", c) }

// text is s without secrets.
func (r *redactor) text(s string) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, w := range r.words {
		s = strings.ReplaceAll(s, w, "[redacted]")
	}
	return s
}

// attr is the ReplaceAttr of a slog handler.
func (r *redactor) attr(_ []string, attr slog.Attr) slog.Attr {
	switch v := attr.Value; v.Kind() {
	case slog.KindString:
		attr.Value = slog.StringValue(r.text(v.String()))
	case slog.KindAny:
		if _, level := v.Any().(slog.Level); !level {
			if s := fmt.Sprint(v.Any()); r.text(s) != s {
				attr.Value = slog.StringValue(r.text(s))
			}
		}
	}
	return attr
}

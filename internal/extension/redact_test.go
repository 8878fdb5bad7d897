package extension

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestSecretsAreHidden(t *testing.T) {
	var out bytes.Buffer
	var r redactor
	log := newLogger(&out, "debug", false, r.attr)
	for _, s := range []string{"https://user:pa55word1@hidden.example.com/some-path?t=tokentoken", "Authorization=Bearer%20abcdef%2Dghi,x=short", `qu"ote`, "on"} {
		r.hide(s)
	}
	for _, said := range []string{
		"pa55word1", "hidden.example.com", "hidden.example.com:443", "some-path", "tokentoken", "abcdef%2Dghi", "abcdef-ghi", `qu"ote`,
	} {
		log.Info("message "+said, "text", said, "error", errors.New("dial tcp: lookup "+said), "list", []string{"a", said})
		if line := out.String(); strings.Contains(line, said) || strings.Count(line, "[redacted]") != 4 {
			t.Errorf("%s shows in %s", said, line)
		}
		out.Reset()
	}
	log.Warn("an innocent line goes on", "n", 7, "list", []string{"a", "b"}, "error", errors.New("connection refused"))
	if line := out.String(); !strings.Contains(line, `level=WARN msg="an innocent line goes on" extension=otlp-relay n=7 list="[a b]" error="connection refused"`) {
		t.Errorf("changed: %s", line)
	}
}

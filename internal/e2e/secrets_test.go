package e2e

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// What the backend is told in confidence never shows in the log, whatever the backend makes of it: neither what the
// variables hold nor what they refer to.
func TestSecretsStayOutOfTheLog(t *testing.T) {
	// As they are written in the variables, and as they go over the wire.
	secrets := []string{
		"bearer-0123456789", "spaced key 42", "spaced%20key%2042", "pa55word%21word", "pa55word!word", "query-token-987654",
		"dXNlcjpwYTU1d29yZCF3b3Jk", // user:pa55word!word
		"parameter=0123,456", "resolved-path-0123",
	}
	for name, answer := range map[string]func(w http.ResponseWriter, echo string){
		"refuses": func(w http.ResponseWriter, echo string) {
			http.Error(w, "bad key: "+echo, http.StatusUnauthorized)
		},
		"fails": func(w http.ResponseWriter, echo string) {
			http.Error(w, echo, http.StatusServiceUnavailable)
		},
		"rejects some": func(w http.ResponseWriter, echo string) {
			w.Header().Set("Content-Type", "application/x-protobuf")
			w.Write(otlp.AppendResponse(nil, otlp.Protobuf, otlp.Traces, &otlp.PartialSuccess{Rejected: 1, Message: echo[:min(len(echo), 1000)]}))
		},
		"says a status": func(w http.ResponseWriter, echo string) {
			w.Header().Set("Content-Type", "application/x-protobuf")
			w.WriteHeader(http.StatusForbidden)
			w.Write(otlp.AppendStatus(nil, otlp.Protobuf, otlp.PermissionDenied, echo))
		},
		"redirects": func(w http.ResponseWriter, echo string) {
			w.Header().Set("Location", "http://query-token-987654.example.com/?"+strings.NewReplacer("\n", "&", " ", "+").Replace(echo))
			w.WriteHeader(http.StatusTemporaryRedirect)
		},
		"speaks no HTTP": func(w http.ResponseWriter, echo string) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				io.WriteString(conn, echo)
				conn.Close()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var told atomic.Int64
			backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				for _, k := range []string{"Authorization", "X-Spaced", "X-Api-Key", "X-Parameter"} {
					if r.Header.Get(k) != "" {
						told.Add(1)
					}
				}
				answer(w, fmt.Sprintf("%s %s %s %s %s", r.Header.Get("Authorization"), r.Header.Get("X-Spaced"), r.Header.Get("X-Api-Key"),
					r.Header.Get("X-Parameter"), r.URL))
			}))
			defer backend.Close()
			keeper := newKeeper(t, map[string]string{"ssm /key": "parameter=0123,456", "secretsmanager path": "resolved-path-0123"})
			vars := faultVars("end")
			maps.Copy(vars, keeper.vars())
			vars["OTLP_RELAY_LOG_LEVEL"] = "debug"
			vars["OTLP_RELAY_HEADERS"] = "x-api-key=Bearer%20bearer-0123456789,x-spaced=spaced%20key%2042,x-parameter=${ssm:/key}"
			vars["OTLP_RELAY_ENDPOINT"] = strings.Replace(backend.URL, "://", "://user:pa55word%21word@", 1) + "/otlp/${secretsmanager:path}?token=query-token-987654"
			c := newChain(t, setup{vars: vars})
			c.mustNotNotice(2)
			c.shutdown()
			if n := told.Load(); n < 4 {
				t.Errorf("the backend was told %d secrets, want all", n)
			}
			c.mustHide(secrets...)
		})
	}
}

// A configuration that cannot be used is reported without its secrets.
func TestSecretsStayOutOfConfigurationErrors(t *testing.T) {
	for _, endpoint := range []string{
		"http://user:pa55word@[::1/otlp?token=query-token-987654", // no URL
		"ftp://user:pa55word@backend.example.com/?token=query-token-987654",
		"http://user:pa55word@/?token=query-token-987654",
	} {
		c := newChain(t, setup{vars: map[string]string{
			"OTLP_RELAY_ENDPOINT": endpoint, "OTLP_RELAY_HEADERS": "bearer-0123456789,=bearer-0123456789,key=bearer-0123456789%zz",
		}})
		c.shutdown()
		log := strings.Join(c.lines(extensionName), "\n")
		for _, s := range []string{"pa55word", "query-token", "bearer-0123456789"} {
			if strings.Contains(log, s) {
				t.Errorf("%s: the log shows %q:\n%s", endpoint, s, log)
			}
		}
	}
}

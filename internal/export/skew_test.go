package export

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// dates are the times in the signatures that a scripted backend saw.
type dates []time.Time

func (d *dates) note(t *testing.T, r *http.Request) {
	t.Helper()
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil {
		t.Errorf("X-Amz-Date: %v", err)
	}
	*d = append(*d, at)
}

func forbidden(date string) string {
	return "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nDate: " + date + "\r\n\r\n"
}

// A clock that is wrong is put right by the backend's, once, and stays so.
func TestWrongClock(t *testing.T) {
	for _, off := range []time.Duration{-25 * time.Hour, -6 * time.Minute, -3 * time.Minute, 0, 3 * time.Minute, 6 * time.Minute, 25 * time.Hour} {
		t.Run(off.String(), func(t *testing.T) {
			key := testKey("xray", nil)
			requests := 0
			verify := key.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			b := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests++
				verify.ServeHTTP(w, r)
			}))
			defer b.Close()
			wrong := func() time.Time { return time.Now().Add(off) }
			h := newHTTP(t, HTTPConfig{URL: mustURL(t, b.URL), Signer: signerFor(key, wrong), Timeout: time.Minute})
			for range 3 {
				if err := h.Send(t.Context(), payload(100)); err != nil {
					t.Fatal(err)
				}
			}
			want := 3
			if off.Abs() > maxSkew {
				want = 4
			}
			if requests != want {
				t.Errorf("%d requests for 3 payloads, want %d", requests, want)
			}
		})
	}
}

// A backend that refuses whatever the time is gets no request more than two.
func TestForbiddenIsAskedOnce(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		date     string
		requests int
	}{
		"the right time":  {now.Format(http.TimeFormat), 1},
		"another time":    {now.Add(-time.Hour).Format(http.TimeFormat), 2},
		"no time":         {"", 1},
		"not a time":      {"yesterday", 1},
		"another century": {"Mon, 01 Jan 1900 00:00:00 GMT", 2},
	} {
		t.Run(name, func(t *testing.T) {
			var seen dates
			b := newBackend(t, func(p *peer) {
				for r := p.request(); r != nil; r = p.request() {
					seen.note(t, r)
					p.say(forbidden(test.date))
				}
			})
			h := newHTTP(t, HTTPConfig{URL: mustURL(t, b.url), Signer: NewSigner(fixedCredentials("K", "S", ""), "xray", "r", func() time.Time { return now }), Timeout: time.Minute})
			if e := refusal(t, h.Send(t.Context(), payload(1))); e.HTTPStatus != 403 || e.Retryable {
				t.Errorf("error is %v", e)
			}
			if len(seen) != test.requests {
				t.Errorf("%d requests, want %d", len(seen), test.requests)
			}
		})
	}
}

// What a freeze aged is signed anew, with credentials of that time: where the connection died in it, and where
// the request came through with the old signature.
func TestSignatureAfterFreeze(t *testing.T) {
	const frozen = time.Hour
	for name, aged := range map[string]func(*peer, *wallClock){
		"the connection died":       func(p *peer, _ *wallClock) { p.Close() },
		"the signature has expired": func(p *peer, w *wallClock) { p.say(forbidden(w.now().UTC().Format(http.TimeFormat))) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var clock wallClock
				var seen dates
				var keys []string
				requests := 0
				n := &pipeNet{script: func(p *peer) {
					for r := p.request(); r != nil; r = p.request() {
						seen.note(t, r)
						keys = append(keys, r.Header.Get("X-Amz-Security-Token"))
						if requests++; requests == 2 {
							clock.freeze(frozen)
							aged(p, &clock)
							continue
						}
						p.say(okAnswer)
					}
				}}
				defer n.Close()
				creds := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
					return aws.Credentials{AccessKeyID: "K", SecretAccessKey: "S", SessionToken: fmt.Sprint("of ", clock.now().Hour())}, nil
				})
				h := newHTTP(t, HTTPConfig{URL: mustURL(t, "http://backend.example/"), Signer: NewSigner(creds, "lambda", "r", clock.now), Now: clock.now, Dial: n.dial, Timeout: time.Minute})
				for range 2 {
					if err := h.Send(t.Context(), payload(100)); err != nil {
						t.Fatal(err)
					}
				}
				if len(seen) != 3 || seen[1].Sub(seen[0]) != 0 || seen[2].Sub(seen[1]) != frozen || keys[2] == keys[1] {
					t.Errorf("signed at %v with credentials %q", seen, keys)
				}
			})
		})
	}
}

// Signing goes with TLS and a client certificate.
func TestSignedOverMutualTLS(t *testing.T) {
	ca := newAuthority(t)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	key := testKey("lambda", nil)
	b := httptest.NewUnstartedServer(key.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) != 1 {
			t.Error("no client certificate came")
		}
	})))
	b.TLS = &tls.Config{Certificates: []tls.Certificate{ca.server(t, time.Time{})}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	b.StartTLS()
	defer b.Close()
	cert, clientKey := ca.client(t)
	h := newHTTP(t, HTTPConfig{URL: mustURL(t, b.URL+"/v1/traces"), TLS: mustLoadTLS(t, ca.file, cert, clientKey), Signer: signerFor(key, nil), Timeout: time.Minute})
	for _, size := range []int{0, 5500, 100 << 10} {
		if err := h.Send(t.Context(), payload(size)); err != nil {
			t.Error(err)
		}
	}
}

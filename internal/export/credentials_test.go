package export

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// environment is a function's variables.
type environment map[string]string

func (e environment) get(name string) string { return e[name] }

func TestCredentialsFromEnvironment(t *testing.T) {
	const uri = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
	tests := []struct {
		name string
		env  environment
		want string // an error's part, or "key secret token"
	}{
		{"role", environment{"AWS_ACCESS_KEY_ID": "K", "AWS_SECRET_ACCESS_KEY": "S", "AWS_SESSION_TOKEN": "T"}, "K S T"},
		{"user", environment{"AWS_ACCESS_KEY_ID": "K", "AWS_SECRET_ACCESS_KEY": "S"}, "K S "},
		{"fixed ones first", environment{"AWS_ACCESS_KEY_ID": "K", "AWS_SECRET_ACCESS_KEY": "S", uri: "http://169.254.170.2/"}, "K S "},
		{"none", environment{}, "neither AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY nor"},
		{"half", environment{"AWS_ACCESS_KEY_ID": "K"}, "without AWS_SECRET_ACCESS_KEY"},
		{"no URL", environment{uri: "::"}, uri + " is not"},
		{"path alone", environment{uri: "/v2/credentials"}, uri + " is not"},
		{"another scheme", environment{uri: "ftp://127.0.0.1/"}, uri + " is not"},
		{"another host in the clear", environment{uri: "http://creds.example.com/"}, "use https://"},
		{"another host that begins alike", environment{uri: "http://127.0.0.1.example.com/"}, "use https://"},
		{"metadata service", environment{uri: "http://169.254.169.254/"}, "use https://"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, err := NewCredentials(CredentialsConfig{Env: test.env.get})
			if err != nil {
				if !strings.Contains(err.Error(), test.want) {
					t.Errorf("error is %v, want %q in it", err, test.want)
				}
				return
			}
			v, err := c.Retrieve(t.Context())
			if got := v.AccessKeyID + " " + v.SecretAccessKey + " " + v.SessionToken; err != nil || got != test.want || v.CanExpire {
				t.Errorf("got %q, %v; want %q", got, err, test.want)
			}
		})
	}
	for _, url := range []string{
		"https://creds.example.com/", "http://127.0.0.9:1/", "http://[::1]/", "http://localhost/", "http://169.254.170.2/v2", "http://169.254.170.23/v1", "http://[fd00:ec2::23]/v1",
		"http://169.254.100.1:9001/2021-04-23/credentials",
	} {
		env := environment{uri: url, "AWS_LAMBDA_RUNTIME_API": "169.254.100.1:9001"}
		if _, err := NewCredentials(CredentialsConfig{Env: env.get}); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// vendor is a container credentials endpoint in memory, for synctest: it gives keys that are numbered and that
// last, or what the test tells it to.
type vendor struct {
	pipeNet
	wallClock
	lasting time.Duration
	broken  atomic.Pointer[string] // the answer instead
	hangs   atomic.Bool
	auth    string // the last request's Authorization
	fetches int
}

const vendorURI = "http://127.0.0.1:9001/2021-04-23/credentials"

func newVendor(t *testing.T, lasting time.Duration, env environment) (*vendor, *Credentials) {
	t.Helper()
	v := &vendor{lasting: lasting}
	v.script = func(p *peer) {
		for r := p.request(); r != nil; r = p.request() {
			v.fetches++
			if v.auth = r.Header.Get("Authorization"); r.Method != "GET" || r.RequestURI != "/2021-04-23/credentials" || r.Host != "127.0.0.1:9001" {
				t.Errorf("got %s %s at %s", r.Method, r.RequestURI, r.Host)
			}
			if v.hangs.Load() {
				continue
			}
			if answer := v.broken.Load(); answer != nil {
				p.say(*answer)
				continue
			}
			body := fmt.Sprintf(`{"AccessKeyId":"ASIA%d","SecretAccessKey":"secret","Token":"token","Expiration":%q}`, v.fetches, v.now().Add(v.lasting).UTC().Format(time.RFC3339))
			p.say(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
		}
	}
	t.Cleanup(v.Close)
	env["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = vendorURI
	c, err := NewCredentials(CredentialsConfig{Env: env.get, Now: v.now, Dial: v.dial})
	if err != nil {
		t.Fatal(err)
	}
	return v, c
}

func (v *vendor) says(answer string) { v.broken.Store(&answer) }

// key is the access key that c gives.
func key(t *testing.T, c *Credentials) string {
	t.Helper()
	v, err := c.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return v.AccessKeyID
}

// Credentials are replaced before they expire, by the wall clock, whether the time passed awake or frozen.
func TestCredentialsAreRenewed(t *testing.T) {
	for name, pass := range map[string]func(*vendor, time.Duration){
		"awake":  func(_ *vendor, d time.Duration) { time.Sleep(d) },
		"frozen": func(v *vendor, d time.Duration) { v.freeze(d) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v, c := newVendor(t, time.Hour, environment{"AWS_CONTAINER_AUTHORIZATION_TOKEN": "0123456789"})
				for range 3 {
					if k := key(t, c); k != "ASIA1" {
						t.Errorf("key is %s", k)
					}
				}
				if v.auth != "0123456789" {
					t.Errorf("Authorization is %q", v.auth)
				}
				pass(v, 54*time.Minute)
				if k := key(t, c); k != "ASIA1" || v.fetches != 1 {
					t.Errorf("6 minutes before the end: key %s, %d fetches", k, v.fetches)
				}
				pass(v, 2*time.Minute)
				if k := key(t, c); k != "ASIA1" { // the old ones serve while new ones come
					t.Errorf("4 minutes before the end: key %s", k)
				}
				synctest.Wait()
				if k := key(t, c); k != "ASIA2" || v.fetches != 2 {
					t.Errorf("after the renewal: key %s, %d fetches", k, v.fetches)
				}
				pass(v, 2*time.Hour)
				if k := key(t, c); k != "ASIA3" { // the old ones have expired: waited for
					t.Errorf("after the end: key %s", k)
				}
			})
		})
	}
}

// Short-lived ones are not asked for again and again: half their life is waited for.
func TestShortCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, c := newVendor(t, time.Minute, environment{})
		for range 100 {
			key(t, c)
			synctest.Wait()
		}
		if v.fetches != 1 || v.auth != "" {
			t.Errorf("%d fetches, Authorization %q", v.fetches, v.auth)
		}
		time.Sleep(31 * time.Second)
		key(t, c)
		synctest.Wait()
		if v.fetches != 2 {
			t.Errorf("%d fetches in half a minute, want 2", v.fetches)
		}
	})
}

// While the endpoint fails the old credentials serve until they expire; it is asked less and less often.
func TestCredentialsOutliveFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, c := newVendor(t, time.Hour, environment{})
		key(t, c)
		v.says("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
		time.Sleep(55 * time.Minute)
		for range 5 * 60 * 10 { // to the end, looked at every 100 ms
			if k := key(t, c); k != "ASIA1" {
				t.Fatalf("key is %s", k)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if v.fetches < 10 || v.fetches > 17 {
			t.Errorf("%d fetches in 5 minutes, want about 14: after 0.1 s, doubling to 1 minute", v.fetches)
		}
		before := v.fetches
		_, err := c.Retrieve(t.Context())
		if err == nil || !strings.Contains(err.Error(), "127.0.0.1:9001: HTTP 503") || v.fetches > before+1 {
			t.Errorf("after the end: %v, %d fetches", err, v.fetches-before)
		}
		v.broken.Store(nil)
		time.Sleep(maxRefetch)
		if k := key(t, c); k == "ASIA1" {
			t.Errorf("key is %s", k)
		}
	})
}

// A clock that is set back does not keep the next fetch from coming.
func TestCredentialsClockSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, c := newVendor(t, time.Hour, environment{})
		v.says("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
		if _, err := c.Retrieve(t.Context()); err == nil {
			t.Fatal("no error")
		}
		if _, err := c.Retrieve(t.Context()); err == nil || v.fetches != 1 {
			t.Errorf("error %v, %d fetches: want none before its time", err, v.fetches)
		}
		v.broken.Store(nil)
		v.freeze(-24 * time.Hour)
		if k := key(t, c); k != "ASIA2" {
			t.Errorf("key is %s", k)
		}
	})
}

// However many ask, one request is under way, and each waits no longer than its own context.
func TestCredentialsOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, c := newVendor(t, time.Hour, environment{})
		v.hangs.Store(true)
		cause := errors.New("the invocation is over")
		ctx, cancel := context.WithCancelCause(t.Context())
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				ctx, want := ctx, "the invocation is over"
				if i%2 == 0 {
					ctx, want = t.Context(), "no answer within 2s"
				}
				if _, err := c.Retrieve(ctx); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error is %v, want %q", err, want)
				}
			})
		}
		time.Sleep(time.Second)
		cancel(cause)
		start := time.Now()
		wg.Wait()
		synctest.Wait()
		if v.fetches != 1 || time.Since(start) != time.Second {
			t.Errorf("%d fetches, %v after the first gave up", v.fetches, time.Since(start))
		}
	})
}

func TestCredentialsFaults(t *testing.T) {
	answer := func(body string) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
	for name, test := range map[string]struct{ answer, want string }{
		"refused":         {"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\nsecret", "HTTP 403"},
		"not HTTP":        {"the secret\r\n\r\n", "not HTTP"},
		"not JSON":        {answer("secret"), "holds no credentials"},
		"half of it":      {answer(`{"AccessKeyId":"secret"}`), "holds no credentials"},
		"no time":         {answer(`{"AccessKeyId":"secret","SecretAccessKey":"secret","Expiration":"secret"}`), "holds no credentials"},
		"another shape":   {answer(`["secret"]`), "holds no credentials"},
		"expired":         {answer(`{"AccessKeyId":"secret","SecretAccessKey":"secret","Expiration":"1999-01-01T00:00:00Z"}`), "expired already"},
		"larger than any": {answer(`{"AccessKeyId":"` + strings.Repeat("secret", 20_000) + `"}`), "holds no credentials"},
		"closed":          {"", "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v, c := newVendor(t, time.Hour, environment{"AWS_CONTAINER_AUTHORIZATION_TOKEN": "secret-token"})
				v.says(test.answer)
				if test.answer == "" {
					v.script = func(p *peer) { p.request() }
				}
				_, err := c.Retrieve(t.Context())
				if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "127.0.0.1:9001") {
					t.Errorf("error is %v, want %q and the endpoint in it", err, test.want)
				}
				if strings.Contains(fmt.Sprint(err), "secret") {
					t.Errorf("error repeats what came or a token: %v", err)
				}
			})
		})
	}
}

// An error of the endpoint's is not taken for one of the backend's.
func TestCredentialsErrorsAreTheirOwn(t *testing.T) {
	backend := newBackend(t, answering(okAnswer))
	env := environment{"AWS_CONTAINER_CREDENTIALS_FULL_URI": vendorURI}
	c, err := NewCredentials(CredentialsConfig{Env: env.get, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, "127.0.0.1:1") // nothing listens there
	}})
	if err != nil {
		t.Fatal(err)
	}
	h := newHTTP(t, HTTPConfig{URL: mustURL(t, backend.url), Signer: NewSigner(c, "lambda", "us-east-1", nil), Timeout: time.Minute})
	e := refusal(t, h.Send(t.Context(), payload(1)))
	if !e.Retryable || !strings.Contains(e.Error(), "get AWS credentials from 127.0.0.1:9001") || strings.Contains(e.Error(), "is the backend running") {
		t.Errorf("error is %v", e)
	}
}

// The token file is read for each request: its content changes.
func TestCredentialsTokenFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	synctest.Test(t, func(t *testing.T) {
		v, c := newVendor(t, time.Minute, environment{"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": file, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "unused"})
		for i, token := range []string{"first-token", "second-token\n"} {
			if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
				t.Fatal(err)
			}
			if k := key(t, c); k != fmt.Sprintf("ASIA%d", i+1) || v.auth != strings.TrimSpace(token) {
				t.Errorf("key %s, Authorization %q, want %q", k, v.auth, token)
			}
			time.Sleep(time.Hour)
		}
		for content, want := range map[string]string{"a\r\nHost: evil": "line break", "\x00": "line break"} {
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Retrieve(t.Context()); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "evil") {
				t.Errorf("error is %v, want %q", err, want)
			}
			time.Sleep(time.Hour)
		}
		os.Remove(file)
		if _, err := c.Retrieve(t.Context()); err == nil || !strings.Contains(err.Error(), "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
			t.Errorf("error is %v", err)
		}
	})
}

// A function URL takes what is signed with the keys that a container endpoint gives, whenever these change, and
// nothing that is signed with older ones.
func TestSignedWithContainerCredentials(t *testing.T) {
	var clock wallClock
	var current atomic.Int32 // the number of the newest key
	vendor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := current.Add(1)
		json.NewEncoder(w).Encode(map[string]any{
			"AccessKeyId": fmt.Sprint("ASIA", n), "SecretAccessKey": fmt.Sprint("secret ", n), "Token": fmt.Sprint("token ", n), "Expiration": clock.now().Add(time.Hour),
		})
	}))
	defer vendor.Close()
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := current.Load()
		key := otlptest.SigV4{
			AccessKeyID: fmt.Sprint("ASIA", n), SecretAccessKey: fmt.Sprint("secret ", n), SessionToken: fmt.Sprint("token ", n),
			Service: "lambda", Region: "eu-central-1", Now: clock.now,
		}
		key.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, r)
	}))
	defer backend.Close()
	env := environment{"AWS_CONTAINER_CREDENTIALS_FULL_URI": vendor.URL + "/2021-04-23/credentials"}
	creds, err := NewCredentials(CredentialsConfig{Env: env.get, Now: clock.now})
	if err != nil {
		t.Fatal(err)
	}
	h := newHTTP(t, HTTPConfig{URL: mustURL(t, backend.URL+"/v1/traces"), Signer: NewSigner(creds, "lambda", "eu-central-1", clock.now), Timeout: time.Minute, Now: clock.now})
	for range 5 {
		for range 3 {
			if err := h.Send(t.Context(), payload(5500)); err != nil {
				t.Fatal(err)
			}
		}
		clock.freeze(2 * time.Hour)
	}
	if n := current.Load(); n != 5 {
		t.Errorf("%d fetches in 5 lives of an hour", n)
	}
}

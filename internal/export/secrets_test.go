package export

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// secretStore is SSM and Secrets Manager, as far as they are asked: it verifies signatures, and answers with what
// the test put under an operation.
type secretStore struct {
	*httptest.Server
	t        *testing.T
	answers  map[string]stored // by operation and name
	requests atomic.Int32
}

// stored is an HTTP status with a body.
type stored struct {
	status int
	body   string
}

func newSecretStore(t *testing.T, service string, answers map[string]stored) (*secretStore, *Secrets) {
	t.Helper()
	s := &secretStore{t: t, answers: answers}
	key := testKey(service, nil)
	s.Server = httptest.NewServer(key.Handler(http.HandlerFunc(s.serve)))
	t.Cleanup(s.Close)
	env := environment{"AWS_REGION": key.Region, "AWS_ENDPOINT_URL": s.URL}
	return s, NewSecrets(SecretsConfig{Credentials: fixedCredentials(key.AccessKeyID, key.SecretAccessKey, key.SessionToken), Env: env.get, UserAgent: "otlp-relay/test"})
}

func (s *secretStore) serve(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	var in struct {
		Name, SecretID string
		WithDecryption bool
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		s.t.Error(err)
	}
	_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	if r.Method != "POST" || r.URL.Path != "/" || r.Header.Get("Content-Type") != "application/x-amz-json-1.1" || op == "GetParameter" && !in.WithDecryption {
		s.t.Errorf("got %s %s, %v, %+v", r.Method, r.URL, r.Header, in)
	}
	a, ok := s.answers[op+" "+in.Name+in.SecretID]
	if !ok {
		a = stored{400, `{"__type":"ValidationException","message":"no such test"}`}
	}
	w.WriteHeader(a.status)
	io.WriteString(w, a.body)
}

func TestParameter(t *testing.T) {
	const arn = "arn:aws:ssm:eu-central-1:123456789012:parameter/otlp/token"
	_, s := newSecretStore(t, "ssm", map[string]stored{
		"GetParameter /otlp/token":   {200, `{"Parameter":{"Name":"/otlp/token","Type":"SecureString","Value":"a \"b\" ü"}}`},
		"GetParameter /otlp/token:3": {200, `{"Parameter":{"Value":"third"}}`},
		"GetParameter " + arn:        {200, `{"Parameter":{"Value":"by ARN"}}`},
		"GetParameter empty":         {200, `{"Parameter":{"Value":""}}`},
		"GetParameter shape":         {200, `{"Other":1}`},
		"GetParameter garbage":       {200, `<html>the value`},
		"GetParameter huge":          {200, `{"Parameter":{"Value":"` + strings.Repeat("the value", 10_000) + `"}}`},
		"GetParameter missing":       {400, `{"__type":"ParameterNotFound"}`},
		"GetParameter denied":        {400, `{"__type":"AccessDeniedException","Message":"User: arn:aws:sts::1:assumed-role/r/f is not authorized to perform: ssm:GetParameter on resource: x because no identity-based policy allows it"}`},
		"GetParameter encrypted":     {400, `{"__type":"com.amazonaws.ssm#AccessDeniedException","message":"User is not authorized to perform: kms:Decrypt on resource: y"}`},
		"GetParameter forbidden":     {400, `{"__type":"AccessDeniedException"}`},
		"GetParameter proxied":       {403, "blocked by\n the proxy"},
		"GetParameter expired":       {400, `{"__type":"ExpiredTokenException","message":"The security token included in the request is expired"}`},
		"GetParameter echo":          {400, `{"__type":"InvalidSignatureException","message":"x-amz-security-token:` + testToken + `\nand so on"}`},
	})
	for name, want := range map[string]string{
		"/otlp/token": `a "b" ü`, "/otlp/token:3": "third", arn: "by ARN", "empty": "",
	} {
		if v, err := s.Parameter(t.Context(), name); err != nil || v != want {
			t.Errorf("%s: %q, %v; want %q", name, v, err, want)
		}
	}
	for name, want := range map[string]string{
		"shape":     "the answer holds no value: does AWS_ENDPOINT_URL_SSM lead to SSM?",
		"garbage":   "not what AWS specifies",
		"huge":      "larger than 64 KiB",
		"missing":   "ParameterNotFound (check its name, its account and its region, eu-central-1)",
		"denied":    "(allow ssm:GetParameter to the function's role)",
		"encrypted": "(allow kms:Decrypt to the function's role)",
		"forbidden": "AccessDeniedException (allow ssm:GetParameter to the function's role)",
		"proxied":   "HTTP 403: blocked by the proxy",
		"expired":   "the AWS credentials of this environment have expired",
		"echo":      "InvalidSignatureException: x-amz-security-token:[redacted] and so on",
		"other":     "ValidationException: no such test",
	} {
		v, err := s.Parameter(t.Context(), name)
		if v != "" || err == nil || !strings.HasPrefix(err.Error(), "read SSM parameter "+name+": ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v; want an error with %q", name, v, err, want)
		}
		if text := fmt.Sprint(err); strings.Contains(text, "the value") && name != "shape" || strings.Contains(text, testToken) || strings.ContainsAny(text, "\n") {
			t.Errorf("%s: error tells too much: %s", name, text)
		}
	}
}

func TestSecret(t *testing.T) {
	const arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:otlp-AbCdEf"
	store, s := newSecretStore(t, "secretsmanager", map[string]stored{
		"GetSecretValue otlp":   {200, `{"Name":"otlp","SecretString":"{\"token\":\"t0\\u00fc\",\"n\":12.50,\"b\":true,\"o\":{\"value\":1},\"z\":null,\"\":\"no name\"}"}`},
		"GetSecretValue " + arn: {200, `{"SecretString":"by ARN"}`},
		"GetSecretValue text":   {200, `{"SecretString":"not JSON: the value"}`},
		"GetSecretValue binary": {200, `{"SecretBinary":"AAEC"}`},
		"GetSecretValue shape":  {200, `{}`},
		"GetSecretValue gone":   {400, `{"__type":"ResourceNotFoundException","Message":"Secrets Manager can't find the specified secret."}`},
		"GetSecretValue denied": {400, `{"__type":"AccessDeniedException","Message":"Access to KMS is not allowed"}`},
	})
	for _, test := range []struct{ id, key, want string }{
		{"otlp", "token", "t0ü"}, {"otlp", "n", "12.50"}, {"otlp", "b", "true"}, {arn, "", "by ARN"}, {"text", "", "not JSON: the value"},
	} {
		if v, err := s.Secret(t.Context(), test.id, test.key); err != nil || v != test.want {
			t.Errorf("%s#%s: %q, %v; want %q", test.id, test.key, v, err, test.want)
		}
	}
	asked := store.requests.Load()
	for _, test := range []struct{ id, key, want string }{
		{"otlp", "absent", `it has no key "absent"`},
		{"otlp", "o", `the value of its key "o" is not text`},
		{"otlp", "z", `the value of its key "z" is not text`},
		{"text", "key", `its text is not a JSON object, so it has no key "key": leave out #key to use it whole`},
		{"binary", "", "it is binary: store it as text"},
		{"shape", "", "does AWS_ENDPOINT_URL_SECRETS_MANAGER lead to Secrets Manager?"},
		{"gone", "", "ResourceNotFoundException: Secrets Manager can't find the specified secret. (check its name"},
		{"denied", "", "(allow secretsmanager:GetSecretValue to the function's role)"},
		{"otlp:AWSPREVIOUS", "", "a version cannot be chosen"},
		{arn + ":token:AWSCURRENT:", "", "a version cannot be chosen"},
		{"a:b:c:d:e:f:g", "", "a version cannot be chosen"},
	} {
		v, err := s.Secret(t.Context(), test.id, test.key)
		if v != "" || err == nil || !strings.HasPrefix(err.Error(), "read secret "+test.id+": ") || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s#%s: %q, %v; want an error with %q", test.id, test.key, v, err, test.want)
		}
		if strings.Contains(fmt.Sprint(err), "the value:") || strings.Contains(fmt.Sprint(err), "not JSON: the") {
			t.Errorf("error repeats a value: %v", err)
		}
	}
	if n := store.requests.Load() - asked; n != 8 {
		t.Errorf("%d requests for 11 mistakes, want 8: 3 are seen beforehand", n)
	}
}

func TestSecretsEndpoint(t *testing.T) {
	const other = "arn:aws:ssm:ap-south-1:123456789012:parameter/x"
	for name, test := range map[string]struct {
		env  environment
		name string
		want string // the address that is dialled, or an error's part
	}{
		"region":            {environment{"AWS_REGION": "eu-west-1"}, "x", "ssm.eu-west-1.amazonaws.com:443"},
		"China":             {environment{"AWS_REGION": "cn-north-1"}, "x", "ssm.cn-north-1.amazonaws.com.cn:443"},
		"GovCloud":          {environment{"AWS_REGION": "us-gov-west-1"}, "x", "ssm.us-gov-west-1.amazonaws.com:443"},
		"region of the ARN": {environment{"AWS_REGION": "eu-west-1"}, other, "ssm.ap-south-1.amazonaws.com:443"},
		"for all services":  {environment{"AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL": "https://all.example:8443"}, "x", "all.example:8443"},
		"for this service":  {environment{"AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL": "https://all.example", "AWS_ENDPOINT_URL_SSM": "https://ssm.example"}, "x", "ssm.example:443"},
		"ignored":           {environment{"AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL": "https://all.example", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, "x", "ssm.eu-west-1.amazonaws.com:443"},
		"no region":         {environment{}, "x", "no region: set AWS_REGION"},
		"no URL":            {environment{"AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL_SSM": "ssm.example"}, "x", "AWS_ENDPOINT_URL_SSM does not make a URL"},
		"no region's name":  {environment{"AWS_REGION": "a b"}, "x", "AWS_REGION does not make a URL"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dialled := ""
				s := NewSecrets(SecretsConfig{Credentials: fixedCredentials("K", "S", ""), Env: test.env.get, Dial: func(_ context.Context, _, addr string) (net.Conn, error) {
					dialled = addr
					return nil, &net.DNSError{Err: "no such host", Name: addr, IsNotFound: true}
				}})
				_, err := s.Parameter(t.Context(), test.name)
				if err == nil || !strings.Contains(dialled+err.Error(), test.want) {
					t.Errorf("dialled %q, error %v; want %q", dialled, err, test.want)
				}
			})
		})
	}
}

// What may pass is tried again, within the limit; what may not is not.
func TestSecretsRetry(t *testing.T) {
	answer := func(status int, body string) string {
		return fmt.Sprintf("HTTP/1.1 %d x\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
	}
	good := answer(200, `{"Parameter":{"Value":"v"}}`)
	hang := ""
	for name, test := range map[string]struct {
		answers []string // the last one is repeated
		want    string   // an error's part; empty: success
		tries   int      // 0: as many as there is time for
	}{
		"throttled":          {[]string{answer(400, `{"__type":"ThrottlingException","message":"Rate exceeded"}`), good}, "", 2},
		"too many":           {[]string{answer(400, `{"__type":"TooManyRequestsException"}`), answer(429, ""), good}, "", 3},
		"out of order":       {[]string{answer(500, `{"__type":"InternalServerError"}`), answer(503, "<html>"), good}, "", 3},
		"hangs, then works":  {[]string{hang, good}, "", 2},
		"hangs":              {[]string{hang}, "no answer within", 0},
		"garbage on the way": {[]string{"garbage\r\n\r\n", good}, "", 2},
		"throttled for good": {[]string{answer(400, `{"__type":"ThrottlingException","message":"Rate exceeded"}`)}, "HTTP 400: ThrottlingException: Rate exceeded", 0},
		"denied":             {[]string{answer(400, `{"__type":"AccessDeniedException"}`)}, "allow ssm:GetParameter", 1},
		"missing":            {[]string{answer(400, `{"__type":"ParameterNotFound"}`)}, "ParameterNotFound", 1},
		"a redirect":         {[]string{"HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\nContent-Length: 0\r\n\r\n"}, "HTTP 302", 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &pipeNet{}
				n.script = func(p *peer) {
					if a := test.answers[min(n.dials, len(test.answers))-1]; p.request() != nil && a != hang {
						p.say(a)
					}
					p.request()
				}
				defer n.Close()
				env := environment{"AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL_SSM": "http://127.0.0.1:1"}
				s := NewSecrets(SecretsConfig{Credentials: fixedCredentials("K", "S", ""), Env: env.get, Dial: n.dial})
				start := time.Now()
				v, err := s.Parameter(t.Context(), "p")
				switch {
				case test.want == "" && (err != nil || v != "v"):
					t.Errorf("%q, %v", v, err)
				case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
					t.Errorf("error is %v, want %q", err, test.want)
				case test.tries != 0 && n.dials != test.tries || test.tries == 0 && n.dials < 3:
					t.Errorf("%d tries, want %d", n.dials, test.tries)
				}
				if d := time.Since(start); d > secretTimeout {
					t.Errorf("took %v, the limit is %v", d, secretTimeout)
				}
			})
		})
	}
}

// A caller's context ends the wait.
func TestSecretsCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &pipeNet{script: func(p *peer) { p.request(); p.request() }}
		defer n.Close()
		env := environment{"AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
		s := NewSecrets(SecretsConfig{Credentials: fixedCredentials("K", "S", ""), Env: env.get, Dial: n.dial})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		if _, err := s.Secret(ctx, "x", ""); err == nil || time.Since(start) != 100*time.Millisecond {
			t.Errorf("error %v after %v", err, time.Since(start))
		}
	})
}

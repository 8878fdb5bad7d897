package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// fixedCredentials are a provider that never changes.
func fixedCredentials(key, secret, token string) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: key, SecretAccessKey: secret, SessionToken: token}, nil
	})
}

// AWS's published vectors, but for those whose path has dot segments or empty ones: the signer of the SDK leaves
// a path as it is, and no endpoint of ours has such a path.
func TestSignVectors(t *testing.T) {
	vectors, err := otlptest.SigV4Vectors()
	if err != nil {
		t.Fatal(err)
	}
	signed := 0
	for _, v := range vectors {
		path, query, _ := strings.Cut(v.Request.RequestURI, "?")
		if strings.Contains(path, "/.") || strings.Contains(path, "//") {
			continue
		}
		signed++
		key := otlptest.SigV4VectorKey()
		s := NewSigner(fixedCredentials(key.AccessKeyID, key.SecretAccessKey, v.Request.Header.Get("X-Amz-Security-Token")), key.Service, key.Region, key.Now)
		r := v.Request.Clone(t.Context())
		// Opaque is the path as it is sent: some vectors hold bytes that a URL must escape.
		r.URL = &url.URL{Scheme: "https", Host: r.Host, Opaque: "//" + r.Host + path, RawQuery: query}
		h, at, err := s.sign(t.Context(), r, v.Body)
		if err != nil || h.Get("Authorization") != v.Authorization || !at.Equal(key.Now()) || h.Get("X-Amz-Date") != "20150830T123600Z" {
			t.Errorf("%s: %v, signed at %v\ngot  %s\nwant %s", v.Name, err, at, h.Get("Authorization"), v.Authorization)
		}
	}
	if signed != 28 {
		t.Errorf("%d vectors signed, want 28 of 34", signed)
	}
}

const testToken = "AQoDYXdzEJr-a-session-token-of-a-role"

func testKey(service string, now func() time.Time) otlptest.SigV4 {
	return otlptest.SigV4{
		AccessKeyID: "ASIAEXAMPLE", SecretAccessKey: "secret/of+the=role", SessionToken: testToken,
		Service: service, Region: "eu-central-1", Now: now,
	}
}

// newSignedBackend is a server that verifies as AWS does.
func newSignedBackend(t *testing.T, key otlptest.SigV4) *httptest.Server {
	t.Helper()
	b := httptest.NewServer(key.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
	})))
	t.Cleanup(b.Close)
	return b
}

func signerFor(key otlptest.SigV4, now func() time.Time) *Signer {
	return NewSigner(fixedCredentials(key.AccessKeyID, key.SecretAccessKey, key.SessionToken), key.Service, key.Region, now)
}

// What a real server receives carries the signature that it computes itself, whatever is sent and however.
func TestSignedRequests(t *testing.T) {
	key := testKey("lambda", nil)
	b := newSignedBackend(t, key)
	for _, path := range []string{"", "/", "/v1/traces", "/a%20b/%E1%88%B4/v1/logs", "/v1/traces?b=2&a=x%20y&a=1&empty"} {
		h := newHTTP(t, HTTPConfig{
			URL: mustURL(t, b.URL+path), Signer: signerFor(key, nil), Timeout: time.Minute, UserAgent: "otlp-relay/test",
			Header: http.Header{"X-Aws-Log-Group": {" a  group "}, "x-amz-meta": {"1"}, "X-Amz-Date": {"never"}, "X-Amzn-Trace-Id": {"Root=1"}, "X-Other": {"o"}},
		})
		for _, p := range []otlp.Payload{payload(0), payload(7), payload(100 << 10), {Signal: otlp.Logs, Encoding: otlp.JSON, Body: []byte("{}"), Size: 2}} {
			if err := h.Send(t.Context(), p); err != nil {
				t.Errorf("%s, %d bytes: %v", path, len(p.Body), err)
			}
		}
	}
}

func TestUnsignedOrWronglySignedIsForbidden(t *testing.T) {
	key := testKey("lambda", nil)
	b := newSignedBackend(t, key)
	wrong := key
	wrong.SecretAccessKey = "another"
	for name, test := range map[string]struct {
		signer *Signer
		header http.Header
		want   []string
	}{
		"unsigned":     {nil, nil, []string{"not signed", "OTLP_RELAY_HEADERS"}},
		"wrong secret": {signerFor(wrong, nil), nil, []string{"does not match", "lambda:InvokeFunctionUrl"}},
		"own login":    {signerFor(key, nil), http.Header{"Authorization": {"Bearer 0123456789"}}, []string{"not signed", "OTLP_RELAY_HEADERS"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHTTP(t, HTTPConfig{URL: mustURL(t, b.URL), Signer: test.signer, Header: test.header, Timeout: time.Minute})
			err := h.Send(t.Context(), payload(10))
			if e := refusal(t, err); e.HTTPStatus != http.StatusForbidden || e.Retryable {
				t.Errorf("error is %v", err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error is %v, want %q in it", err, want)
				}
			}
			if strings.Contains(err.Error(), testToken) || strings.Contains(err.Error(), "0123456789") {
				t.Errorf("error repeats a secret: %v", err)
			}
		})
	}
}

// Without credentials nothing is sent, and the sender may try again.
func TestNoCredentials(t *testing.T) {
	b := newBackend(t, answering(okAnswer))
	creds := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{}, errors.New("none here")
	})
	h := newHTTP(t, HTTPConfig{URL: mustURL(t, b.url), Signer: NewSigner(creds, "lambda", "us-east-1", nil), Timeout: time.Minute})
	if e := refusal(t, h.Send(t.Context(), payload(10))); !e.Retryable || !strings.Contains(e.Error(), "sign the request: none here") {
		t.Errorf("error is %v", e)
	}
}

// AWS's refusals, as its services write them, with what to do.
func TestSignedRefusals(t *testing.T) {
	for name, test := range map[string]struct {
		service, contentType, body string
		want                       []string
	}{
		"function URL":      {"lambda", "application/json", `{"Message":"Forbidden. For troubleshooting Function URL authorization issues, see: https://docs.aws.amazon.com/"}`, []string{"Forbidden. For", "(allow lambda:InvokeFunctionUrl and lambda:InvokeFunction to the function's role)"}},
		"function URL, old": {"lambda", "application/json", `{"message":"Forbidden"}`, []string{"Forbidden (allow lambda:InvokeFunctionUrl"}},
		"action named":      {"xray", "application/json", `{"message":"User: arn is not authorized to perform: xray:PutSpans on resource: *"}`, []string{"perform: xray:PutSpans", "(signed for xray in eu-central-1: does the function's role allow it?)"}},
		"expired":           {"logs", "application/json", `{"__type":"ExpiredTokenException","message":"The security token included in the request is expired"}`, []string{"credentials of this environment have expired"}},
		"expired, in XML":   {"osis", "text/xml", `<Code>ExpiredToken</Code><Message>The provided token has expired.</Message>`, []string{"credentials of this environment have expired"}},
		"echo":              {"lambda", "application/json", `{"message":"The Canonical String should have been x-amz-security-token:` + testToken + `"}`, []string{"x-amz-security-token:[redacted]"}},
		"nothing":           {"monitoring", "", "", []string{"Forbidden (signed for monitoring in eu-central-1"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t, answering(fmt.Sprintf("HTTP/1.1 403 Forbidden\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", test.contentType, len(test.body), test.body)))
			h := newHTTP(t, HTTPConfig{URL: mustURL(t, b.url), Signer: signerFor(testKey(test.service, nil), nil), Timeout: time.Minute})
			e := refusal(t, h.Send(t.Context(), payload(10)))
			if e.Retryable || e.HTTPStatus != http.StatusForbidden || e.Code != otlp.PermissionDenied || len(e.Message) > maxMessage {
				t.Errorf("error is %+v", e)
			}
			for _, want := range test.want {
				if !strings.Contains(e.Message, want) {
					t.Errorf("message is %q, want %q in it", e.Message, want)
				}
			}
			if strings.Contains(e.Message, testToken) {
				t.Errorf("message repeats the session token: %q", e.Message)
			}
		})
	}
}

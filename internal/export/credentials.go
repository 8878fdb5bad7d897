package export

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

const (
	// refreshAhead is how long before credentials expire new ones are asked for, at most.
	refreshAhead = 5 * time.Minute

	// fetchTimeout is the most that one request to the credentials endpoint may take: it is on this machine.
	fetchTimeout = 2 * time.Second

	// maxRefetch is the longest wait after a failed fetch; the first is firstBackoff, and it doubles.
	maxRefetch = time.Minute
)

// CredentialsConfig says where AWS credentials come from.
type CredentialsConfig struct {
	// Env reads an environment variable, as os.Getenv does.
	Env func(name string) string

	// Now is the wall clock; nil is the system's.
	Now func() time.Time

	// Dial opens TCP connections; nil is a net.Dialer's.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Credentials are AWS credentials: fixed ones from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN,
// which Lambda replaces only together with the environment, or else those of the container credentials endpoint
// (AWS_CONTAINER_CREDENTIALS_FULL_URI), which Lambda uses with SnapStart. The latter are fetched at the first
// Retrieve and again before they expire by the wall clock, beside the requests that are signed with the old ones.
//
// Credentials is an aws.CredentialsProvider and safe for concurrent use.
type Credentials struct {
	source *containerEndpoint // nil: the credentials are fixed
	now    func() time.Time

	mu      sync.Mutex
	creds   aws.Credentials
	renewAt time.Time     // wall time
	flight  chan struct{} // closed when the fetch under way ends; nil: none is under way
	err     error         // of the last fetch
	backoff time.Duration // after the next failed fetch
	again   time.Time     // wall time before which no fetch begins
}

// NewCredentials returns the Credentials that the environment names, or an error that says what is wrong with it.
// It asks nobody.
func NewCredentials(cfg CredentialsConfig) (*Credentials, error) {
	c := &Credentials{now: cfg.Now, backoff: firstBackoff}
	if c.now == nil {
		c.now = func() time.Time { return time.Now().Round(0) }
	}
	key, secret := cfg.Env("AWS_ACCESS_KEY_ID"), cfg.Env("AWS_SECRET_ACCESS_KEY")
	uri := cfg.Env("AWS_CONTAINER_CREDENTIALS_FULL_URI")
	switch {
	case key != "" && secret != "":
		c.creds = aws.Credentials{AccessKeyID: key, SecretAccessKey: secret, SessionToken: cfg.Env("AWS_SESSION_TOKEN"), Source: "environment"}
		return c, nil
	case uri == "" && key != "":
		return nil, errors.New("AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY: set both")
	case uri == "":
		return nil, errors.New("no AWS credentials to sign with: neither AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY nor AWS_CONTAINER_CREDENTIALS_FULL_URI is set")
	}
	var err error
	c.source, err = newContainerEndpoint(uri, cfg)
	return c, err
}

// Retrieve returns credentials that are valid now. It waits for the endpoint only where there are none, no longer
// than ctx lasts and 2 s; after a failed fetch it fails at once until the next one is due.
func (c *Credentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	for waited := false; ; waited = true {
		c.mu.Lock()
		now := c.now()
		usable := c.creds.HasKeys() && (!c.creds.CanExpire || now.Before(c.creds.Expires))
		due := !usable || c.creds.CanExpire && !now.Before(c.renewAt)
		// A wait that is longer than any means that the clock was set back.
		resting := now.Before(c.again) && c.again.Sub(now) <= maxRefetch
		if due && c.flight == nil && !resting && !waited {
			c.flight = make(chan struct{})
			go c.fetch(c.flight)
		}
		creds, err, flight := c.creds, c.err, c.flight
		c.mu.Unlock()
		switch {
		case usable:
			return creds, nil
		case flight == nil:
			return aws.Credentials{}, err
		}
		select {
		case <-flight:
		case <-ctx.Done():
			return aws.Credentials{}, context.Cause(ctx)
		}
	}
}

// fetch asks the endpoint for new credentials. One at a time runs.
func (c *Credentials) fetch(flight chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	creds, err := c.source.fetch(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(flight)
	c.flight = nil
	now := c.now()
	left := creds.Expires.Sub(now)
	if err == nil && creds.CanExpire && left <= 0 {
		err = fmt.Errorf("the AWS credentials from %s have expired already: is the clock right?", c.source.link.dialer.addr)
	}
	if c.err = err; err != nil {
		c.again = now.Add(c.backoff)
		c.backoff = min(2*c.backoff, maxRefetch)
		return
	}
	c.creds, c.backoff, c.again = creds, firstBackoff, time.Time{}
	c.renewAt = creds.Expires.Add(-min(refreshAhead, left/2))
}

// containerEndpoint is where a container's credentials are had (AWS SDKs and Tools Reference Guide, "Container
// credential provider").
type containerEndpoint struct {
	link  *link
	token func() (string, error) // the value of Authorization, or empty
}

func newContainerEndpoint(uri string, cfg CredentialsConfig) (*containerEndpoint, error) {
	u, err := url.Parse(uri)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("AWS_CONTAINER_CREDENTIALS_FULL_URI is not an http:// or https:// URL")
	}
	if u.Scheme == "http" && !isOwnHost(u.Hostname(), cfg.Env("AWS_LAMBDA_RUNTIME_API")) {
		return nil, fmt.Errorf("AWS_CONTAINER_CREDENTIALS_FULL_URI is http:// to %s, which is not this machine: use https://", u.Hostname())
	}
	l, err := newLink(HTTPConfig{URL: u, Now: cfg.Now, Dial: cfg.Dial})
	if err != nil {
		return nil, fmt.Errorf("AWS_CONTAINER_CREDENTIALS_FULL_URI: %w", err)
	}
	e := &containerEndpoint{link: l, token: func() (string, error) { return cfg.Env("AWS_CONTAINER_AUTHORIZATION_TOKEN"), nil }}
	if file := cfg.Env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"); file != "" {
		e.token = func() (string, error) { // its content changes
			b, err := os.ReadFile(file)
			if err != nil {
				return "", fmt.Errorf("read what AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE names: %v", err)
			}
			return strings.TrimSpace(string(b)), nil
		}
	}
	return e, nil
}

// isOwnHost says whether a token may be sent to host in the clear, as the AWS SDKs see it: loopback, the endpoints
// of ECS and EKS, and here the host of Lambda's own API.
func isOwnHost(host, runtimeAPI string) bool {
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() || host == "localhost" {
		return true
	}
	if api, _, err := net.SplitHostPort(runtimeAPI); err == nil && api == host {
		return true
	}
	return host == "169.254.170.2" || host == "169.254.170.23" || host == "fd00:ec2::23"
}

// fetch asks for credentials. Its errors hold no secret, and no cause that could be taken for the backend's.
func (e *containerEndpoint) fetch(ctx context.Context) (aws.Credentials, error) {
	fail := func(format string, args ...any) (aws.Credentials, error) {
		return aws.Credentials{}, fmt.Errorf("get AWS credentials from %s: %s", e.link.dialer.addr, fmt.Sprintf(format, args...))
	}
	token, err := e.token()
	if err != nil {
		return fail("%v", err)
	}
	header := http.Header{"Accept": {"application/json"}}
	if token != "" {
		header.Set("Authorization", token)
	}
	if checkHeader("Authorization", []string{token}) != nil {
		return fail("AWS_CONTAINER_AUTHORIZATION_TOKEN holds a line break or control character")
	}
	defer e.link.Close()
	r, err := e.link.roundTrip(ctx, request{head: func(_ context.Context, dst []byte) ([]byte, error) {
		dst = fmt.Appendf(dst, "GET %s HTTP/1.1\r\nHost: %s\r\n", e.link.head.url.RequestURI(), hostHeader(e.link.head.url))
		return append(appendHeader(dst, header), "\r\n"...), nil
	}})
	switch {
	case ctx.Err() != nil:
		return fail("no answer within %v", fetchTimeout)
	case err != nil:
		return fail("%v", err)
	case r.status != http.StatusOK:
		return fail("HTTP %d", r.status)
	}
	var answer struct {
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string
		Token           string
		Expiration      time.Time
	}
	// The answer is not repeated: it may hold keys.
	if json.Unmarshal(r.body, &answer) != nil || answer.AccessKeyID == "" || answer.SecretAccessKey == "" {
		return fail("its answer holds no credentials")
	}
	return aws.Credentials{
		AccessKeyID: answer.AccessKeyID, SecretAccessKey: answer.SecretAccessKey, SessionToken: answer.Token,
		Source: "container", CanExpire: !answer.Expiration.IsZero(), Expires: answer.Expiration,
	}, nil
}

package export

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// maxSkew is how far a signature's time may be from the service's clock: AWS refuses one that is 5 minutes off.
const maxSkew = 4 * time.Minute

// Signer signs requests to one AWS service in one region with Signature Version 4 (AWS IAM User Guide,
// "AWS Signature Version 4 for API requests"). It is safe for concurrent use.
type Signer struct {
	creds           aws.CredentialsProvider
	service, region string
	now             func() time.Time
	v4              *v4.Signer

	mu      sync.Mutex
	skew    time.Duration // by which the service's clock is ahead of ours
	secrets []string      // of the last signature, what a service must not be able to put into our log
}

// NewSigner returns a Signer. service is the name that AWS signs by, such as "lambda" or "xray"; see ServiceOf.
// now is the wall clock; nil is the system's.
func NewSigner(creds aws.CredentialsProvider, service, region string, now func() time.Time) *Signer {
	if now == nil {
		now = time.Now
	}
	return &Signer{creds: creds, service: service, region: region, now: now, v4: v4.NewSigner()}
}

// sign returns the headers that authorize a request of which r holds the method, the URL, the host and the
// headers to be covered. r is changed. signed is the signature's time, by the service's clock.
func (s *Signer) sign(ctx context.Context, r *http.Request, body []byte) (h http.Header, signed time.Time, err error) {
	creds, err := s.creds.Retrieve(ctx)
	if err != nil {
		return nil, signed, fmt.Errorf("sign the request: %w", err)
	}
	s.mu.Lock()
	signed = s.now().Add(s.skew)
	s.mu.Unlock()
	sum := sha256.Sum256(body)
	if err := s.v4.SignHTTP(ctx, creds, r, hex.EncodeToString(sum[:]), s.service, s.region, signed); err != nil {
		return nil, signed, fmt.Errorf("sign the request: %w", err)
	}
	h = http.Header{}
	for _, name := range []string{"Authorization", "X-Amz-Date", "X-Amz-Security-Token"} {
		if v, ok := r.Header[name]; ok {
			h[name] = v
		}
	}
	_, signature, _ := strings.Cut(r.Header.Get("Authorization"), "Signature=")
	s.mu.Lock()
	s.secrets = appendSecrets(nil, creds.SessionToken, signature)
	s.mu.Unlock()
	return h, signed, nil
}

// signedByAWS says whether a signature covers a header of the user's: all that AWS gives a meaning to.
func signedByAWS(name string) bool {
	return strings.HasPrefix(name, "X-Amz-") || strings.HasPrefix(name, "X-Aws-")
}

// mistimed says whether r refuses a request because of the time in its signature: a clock is wrong, or a freeze
// lay between the signature and its arrival. The service's clock counts from then on, and the request may be
// sent once more.
func (s *Signer) mistimed(r *response, signed time.Time) bool {
	if s == nil || r.status != http.StatusForbidden && r.status != http.StatusUnauthorized && r.status != http.StatusBadRequest {
		return false
	}
	date, err := http.ParseTime(r.header.Get("Date"))
	if err != nil || date.Sub(signed).Abs() < maxSkew {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skew = date.Sub(s.now())
	return true
}

// redact hides what the last signature was made of: AWS repeats it where a signature is wrong.
func (s *Signer) redact(text string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return hide(text, s.secrets)
}

// hint is what a user can do about a refusal whose text is given.
func (s *Signer) hint(text string) string {
	switch {
	case strings.Contains(text, "expired") && strings.Contains(text, "token"), strings.Contains(text, "ExpiredToken"):
		return " (the AWS credentials of this environment have expired: Lambda gives new ones to a new environment)"
	case s.service == "lambda":
		return " (allow lambda:InvokeFunctionUrl and lambda:InvokeFunction to the function's role)"
	}
	return fmt.Sprintf(" (signed for %s in %s: does the function's role allow it?)", s.service, s.region)
}

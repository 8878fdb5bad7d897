package otlptest

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// SigV4 verifies requests signed with AWS Signature Version 4, as a service does: it makes the canonical request
// again from what arrived and compares signatures (AWS IAM User Guide, "Create a signed AWS API request").
type SigV4 struct {
	AccessKeyID, SecretAccessKey string
	SessionToken                 string // empty: none is expected
	Service, Region              string
	Now                          func() time.Time // nil: the system's clock
}

const amzTime = "20060102T150405Z"

// Handler answers 403 to what is not rightly signed, as a Lambda function URL of AuthType AWS_IAM does, and gives
// all else to next.
func (v SigV4) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if err := v.Verify(r, body); err != nil {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("X-Amzn-Errortype", "AccessDeniedException")
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `{"Message":%q}`, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Verify says what is wrong with the signature of r, which came with body.
func (v SigV4) Verify(r *http.Request, body []byte) error {
	auth, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	if !ok {
		return errors.New("Forbidden: the request is not signed")
	}
	parts := map[string]string{}
	for _, p := range strings.Split(auth, ",") {
		k, val, _ := strings.Cut(strings.TrimSpace(p), "=")
		parts[k] = val
	}
	date := r.Header.Get("X-Amz-Date")
	at, err := time.Parse(amzTime, date)
	if err != nil {
		return errors.New("X-Amz-Date is missing or malformed")
	}
	scope := date[:8] + "/" + v.Region + "/" + v.Service + "/aws4_request"
	signed := strings.Split(parts["SignedHeaders"], ";")
	switch {
	case parts["Credential"] != v.AccessKeyID+"/"+scope:
		return fmt.Errorf("the security token included in the request is invalid: credential %q, want scope %s", parts["Credential"], scope)
	case r.Header.Get("X-Amz-Security-Token") != v.SessionToken:
		return errors.New("the security token included in the request is invalid")
	case v.now().Sub(at) >= 5*time.Minute:
		return fmt.Errorf("Signature expired: %s is now earlier than %s", date, v.now().Add(-5*time.Minute).UTC().Format(amzTime))
	case at.Sub(v.now()) >= 5*time.Minute:
		return fmt.Errorf("Signature not yet current: %s is still later than %s", date, v.now().Add(5*time.Minute).UTC().Format(amzTime))
	}
	for name := range r.Header {
		lower := strings.ToLower(name)
		if must := lower == "content-type" || strings.HasPrefix(lower, "x-amz-"); must && !slices.Contains(signed, lower) {
			return fmt.Errorf("header %s is not signed", lower)
		}
	}
	if !slices.Contains(signed, "host") || !slices.IsSorted(signed) {
		return fmt.Errorf("signed headers %q: host is missing, or they are not sorted", signed)
	}
	if want := v.signature(r, body, signed, scope); !hmac.Equal([]byte(parts["Signature"]), []byte(want)) {
		return fmt.Errorf("The request signature we calculated does not match the signature you provided. The Canonical String for this request should have been\n%s", v.canonical(r, body, signed))
	}
	return nil
}

func (v SigV4) now() time.Time {
	if v.Now == nil {
		return time.Now()
	}
	return v.Now()
}

// signature is what the Authorization of r should end with.
func (v SigV4) signature(r *http.Request, body []byte, signed []string, scope string) string {
	hash := sha256.Sum256([]byte(v.canonical(r, body, signed)))
	toSign := strings.Join([]string{"AWS4-HMAC-SHA256", r.Header.Get("X-Amz-Date"), scope, hex.EncodeToString(hash[:])}, "\n")
	key := []byte("AWS4" + v.SecretAccessKey)
	for _, part := range append(strings.Split(scope, "/"), toSign) {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	return hex.EncodeToString(key)
}

// canonical is the canonical request.
func (v SigV4) canonical(r *http.Request, body []byte, signed []string) string {
	path, query, _ := strings.Cut(r.RequestURI, "?")
	hash := sha256.Sum256(body)
	lines := []string{r.Method, canonicalPath(path), canonicalQuery(query)}
	for _, name := range signed {
		values := slices.Clone(r.Header.Values(name))
		if name == "host" {
			values = []string{r.Host}
		}
		for i := range values {
			values[i] = strings.Join(strings.Fields(values[i]), " ")
		}
		lines = append(lines, name+":"+strings.Join(values, ","))
	}
	lines = append(lines, "", strings.Join(signed, ";"), hex.EncodeToString(hash[:]))
	return strings.Join(lines, "\n")
}

// canonicalPath removes dot segments and empty ones, and encodes the path as it was sent once more, as every
// service but S3 wants it.
func canonicalPath(path string) string {
	var out []string
	for _, s := range strings.Split(path, "/") {
		switch s {
		case "", ".":
		case "..":
			out = out[:max(0, len(out)-1)]
		default:
			out = append(out, encodeURI(s))
		}
	}
	canonical := "/" + strings.Join(out, "/")
	if strings.HasSuffix(path, "/") && len(out) > 0 {
		canonical += "/"
	}
	return canonical
}

func canonicalQuery(query string) string {
	var pairs []string
	for _, p := range strings.Split(query, "&") {
		if p == "" {
			continue
		}
		k, val, _ := strings.Cut(p, "=")
		pairs = append(pairs, encodeURI(decodeURI(k))+"\x00"+encodeURI(decodeURI(val)))
	}
	slices.Sort(pairs) // by name, then by value
	for i, p := range pairs {
		pairs[i] = strings.Replace(p, "\x00", "=", 1)
	}
	return strings.Join(pairs, "&")
}

// encodeURI encodes every byte that RFC 3986 reserves.
func encodeURI(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func decodeURI(s string) string {
	if d, err := url.PathUnescape(s); err == nil {
		return d
	}
	return s
}

package export

import (
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

const (
	maxMessage    = 256            // bytes of a backend's text that an error holds
	maxRetryAfter = 24 * time.Hour // more is a mistake of the backend's
)

// wrongPath is the likely mistake where nobody takes the requests.
const wrongPath = "check the path of OTLP_RELAY_ENDPOINT"

// verdict makes an error of a response (OTLP specification, "OTLP/HTTP Response"), or nil of a success.
func (h *HTTP) verdict(r *response, p otlp.Payload) error {
	if r.status/100 == 2 {
		if enc, ok := encodingOf(r.header, p.Encoding); ok {
			return h.taken(enc, p.Signal, r.body)
		}
		return nil
	}
	e := h.refusal(r, wrongPath)
	enc, ok := encodingOf(r.header, otlp.Protobuf)
	if !ok || r.status/100 == 3 {
		return e
	}
	code, message, ok := otlp.ParseStatus(enc, r.body)
	switch {
	case !ok:
		return e
	case h.head.signer == nil:
		e.Message = h.clean(message)
	default: // AWS writes its errors alike
		e.Message = h.hinted(r.status, message, wrongPath)
	}
	if code != otlp.OK {
		e.Code = code
	}
	return e
}

// taken looks for a partial success in the body of the answer to a request that was taken. A body that is none of
// OTLP's says nothing.
func (c *client) taken(enc otlp.Encoding, sig otlp.Signal, body []byte) error {
	partial, err := otlp.ParseResponse(enc, sig, body)
	if err != nil || partial == nil {
		return nil
	}
	message := c.clean(partial.Message)
	if partial.Rejected > 0 {
		return &otlp.PartialSuccess{Rejected: partial.Rejected, Message: message}
	}
	if c.warn != nil && message != "" {
		c.warn(message)
	}
	return nil
}

// refusal is what an HTTP status says by itself, with what text there is. lost is the likely mistake where nobody
// takes the requests.
func (c *client) refusal(r *response, lost string) *otlp.Error {
	e := &otlp.Error{Code: otlp.CodeForHTTP(r.status), HTTPStatus: r.status}
	if r.status/100 == 3 {
		e.Message = c.redirected(r)
		return e
	}
	e.Message = c.hinted(r.status, textOf(r), lost)
	switch r.status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		e.Retryable = true
		e.RetryAfter = retryAfter(r.header.Get("Retry-After"), c.now())
	}
	return e
}

// textOf is what a response says to people.
func textOf(r *response) string {
	if ct := mediaType(r.header); strings.HasPrefix(ct, "text/") || strings.HasSuffix(ct, "json") || ct == "" {
		if text := strings.Join(strings.Fields(string(r.body)), " "); text != "" {
			return text
		}
	}
	return http.StatusText(r.status)
}

// hinted is a refusal's text with a hint at the likely remedy.
func (c *client) hinted(status int, text, lost string) string {
	hint := ""
	switch {
	case status == http.StatusForbidden && c.head.signer != nil:
		hint = c.head.signer.hint(text)
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		hint = " (check OTLP_RELAY_HEADERS)"
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed:
		hint = " (" + lost + ")"
	case status == http.StatusProxyAuthRequired:
		hint = " (check the credentials in HTTP_PROXY)"
	}
	return printable(c.head.redact(text), maxMessage-len(hint)) + hint
}

// redirected is the text of a redirect, which is never followed: it would carry the headers to another host.
func (c *client) redirected(r *response) string {
	to := "elsewhere"
	if u, err := url.Parse(r.header.Get("Location")); err == nil && u.Host != "" {
		to = "to " + c.clean(u.Host)
	}
	return "redirects " + to + ", which is not followed: set OTLP_RELAY_ENDPOINT to where the backend really is"
}

// clean makes a backend's text fit for a log.
func (c *client) clean(text string) string { return printable(c.head.redact(text), maxMessage) }

// printable is at most limit bytes of s, whole characters, with a space for each that cannot be printed.
func printable(s string, limit int) string {
	b := make([]byte, 0, min(len(s), limit))
	for _, r := range s {
		if r == utf8.RuneError || !strconv.IsPrint(r) {
			r = ' '
		}
		if len(b)+utf8.RuneLen(r) > limit {
			break
		}
		b = utf8.AppendRune(b, r)
	}
	return string(b)
}

// encodingOf is the OTLP encoding that a response's Content-Type names; fallback where it has none. ok is
// false where it names another type.
func encodingOf(h http.Header, fallback otlp.Encoding) (enc otlp.Encoding, ok bool) {
	switch mediaType(h) {
	case "application/x-protobuf", "application/protobuf":
		return otlp.Protobuf, true
	case "application/json":
		return otlp.JSON, true
	case "":
		return fallback, true
	}
	return 0, false
}

func mediaType(h http.Header) string {
	t, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(t))
}

// retryAfter is the wait that a Retry-After value asks for (RFC 9110 §10.2.3: seconds or a date), from 0 to
// maxRetryAfter; 0 for one that is malformed or past.
func retryAfter(value string, now time.Time) time.Duration {
	if value == "" {
		return 0
	}
	wait := time.Duration(math.MaxInt64)
	if strings.Trim(value, "0123456789") == "" {
		if s, err := strconv.Atoi(value); err == nil && s <= int(maxRetryAfter/time.Second) {
			wait = time.Duration(s) * time.Second
		}
	} else {
		date, err := http.ParseTime(value)
		if err != nil {
			return 0
		}
		wait = date.Sub(now)
	}
	return max(0, min(wait, maxRetryAfter))
}

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

// verdict makes an error of a response (OTLP specification, "OTLP/HTTP Response"), or nil of a success.
func (h *HTTP) verdict(r *response, p otlp.Payload) error {
	switch {
	case r.status/100 == 2:
		return h.success(r, p)
	case r.status/100 == 3:
		return &otlp.Error{Code: otlp.CodeForHTTP(r.status), HTTPStatus: r.status, Message: h.redirected(r)}
	}
	e := &otlp.Error{HTTPStatus: r.status}
	e.Code, e.Message = h.explanation(r)
	switch r.status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		e.Retryable = true
		e.RetryAfter = retryAfter(r.header.Get("Retry-After"), h.now())
	}
	return e
}

// success looks for a partial success in the body. A body that is none of OTLP's says nothing.
func (h *HTTP) success(r *response, p otlp.Payload) error {
	enc, ok := encodingOf(r.header, p.Encoding)
	if !ok || len(r.body) == 0 {
		return nil
	}
	partial, err := otlp.ParseResponse(enc, p.Signal, r.body)
	if err != nil || partial == nil {
		return nil
	}
	message := h.clean(partial.Message)
	if partial.Rejected > 0 {
		return &otlp.PartialSuccess{Rejected: partial.Rejected, Message: message}
	}
	if h.warn != nil && message != "" {
		h.warn(message)
	}
	return nil
}

// explanation is the code and the text of a refusal: its google.rpc.Status, else what text there is with a
// hint at the likely remedy.
func (h *HTTP) explanation(r *response) (otlp.Code, string) {
	code := otlp.CodeForHTTP(r.status)
	if enc, ok := encodingOf(r.header, otlp.Protobuf); ok && len(r.body) > 0 {
		if c, message, ok := otlp.ParseStatus(enc, r.body); ok {
			if c != otlp.OK {
				code = c
			}
			if h.head.signer == nil {
				return code, h.clean(message)
			}
			return code, h.hinted(r.status, message) // AWS writes its errors alike
		}
	}
	text := ""
	if ct := mediaType(r.header); strings.HasPrefix(ct, "text/") || strings.HasSuffix(ct, "json") || ct == "" {
		text = strings.Join(strings.Fields(string(r.body)), " ")
	}
	if text == "" {
		text = http.StatusText(r.status)
	}
	return code, h.hinted(r.status, text)
}

// hinted is a refusal's text with a hint at the likely remedy.
func (h *HTTP) hinted(status int, text string) string {
	hint := ""
	switch {
	case status == http.StatusForbidden && h.head.signer != nil:
		hint = h.head.signer.hint(text)
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		hint = " (check OTLP_RELAY_HEADERS)"
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed:
		hint = " (check the path of OTLP_RELAY_ENDPOINT)"
	case status == http.StatusProxyAuthRequired:
		hint = " (check the credentials in HTTP_PROXY)"
	}
	return printable(h.head.redact(text), maxMessage-len(hint)) + hint
}

// redirected is the text of a redirect, which is never followed: it would carry the headers to another host.
func (h *HTTP) redirected(r *response) string {
	to := "elsewhere"
	if u, err := url.Parse(r.header.Get("Location")); err == nil && u.Host != "" {
		to = "to " + h.clean(u.Host)
	}
	return "redirects " + to + ", which is not followed: set OTLP_RELAY_ENDPOINT to where the backend really is"
}

// clean makes a backend's text fit for a log.
func (h *HTTP) clean(text string) string { return printable(h.head.redact(text), maxMessage) }

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

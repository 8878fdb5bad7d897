package export

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// framing lists the headers that describe the message or the connection. They are ours: a user's value could
// only be wrong, or (Accept-Encoding, Expect, Upgrade) ask for an answer that we do not read.
var framing = []string{
	"Accept-Encoding", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Host",
	"Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// head writes the request heads of one destination.
type head struct {
	fixed   string   // the request line and what is the same in each request
	secrets []string // what a backend must not be able to put into our log by repeating it

	signer *Signer     // nil: requests are not signed
	url    *url.URL    // of the requests
	header http.Header // the part of the user's header that a signature covers
}

// newHead builds and checks the fixed part. via is the proxy, or nil.
func newHead(cfg HTTPConfig, via *proxy) (head, error) {
	header := ownHeader(cfg)
	password, _ := cfg.URL.User.Password()
	secrets := appendSecrets(nil, password, cfg.URL.RawQuery)
	for _, values := range cfg.URL.Query() {
		secrets = appendSecrets(secrets, values...)
	}
	for name, values := range header {
		if err := checkHeader(name, values); err != nil {
			return head{}, err
		}
		if name != "User-Agent" {
			secrets = appendSecrets(secrets, values...)
		}
	}
	h := head{secrets: secrets, url: cfg.URL, header: http.Header{}}
	if _, own := header["Authorization"]; !own && cfg.Signer != nil {
		h.signer = cfg.Signer
		header.Del("X-Amz-Date")
		header.Del("X-Amz-Security-Token")
		for name, values := range header {
			if signedByAWS(name) {
				h.header[name] = values
			}
		}
	}
	target := cfg.URL.RequestURI()
	if via != nil && cfg.URL.Scheme == "http" { // https goes through a tunnel
		target = "http://" + hostHeader(cfg.URL) + target
		if via.auth != "" {
			header.Set("Proxy-Authorization", via.auth)
		}
	}
	fixed := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\n", target, hostHeader(cfg.URL))
	h.fixed = string(appendHeader(fixed, header))
	return h, nil
}

// ownHeader is the user's header without what is ours to set, with what the rest of cfg adds.
func ownHeader(cfg HTTPConfig) http.Header {
	header := http.Header{}
	for name, values := range cfg.Header {
		for _, v := range values {
			header.Add(name, v) // makes the name canonical
		}
	}
	for _, name := range framing {
		header.Del(name)
	}
	if _, ok := header["User-Agent"]; !ok && cfg.UserAgent != "" {
		header.Set("User-Agent", cfg.UserAgent)
	}
	if _, ok := header["Authorization"]; !ok && cfg.URL.User != nil {
		header.Set("Authorization", basicAuth(cfg.URL.User))
	}
	return header
}

// appendTo appends the head of a request with body, the empty line included, to dst. coding is the body's content
// coding, or empty. signed is the time of the signature, by the clock of the service; zero where there is none.
func (h *head) appendTo(ctx context.Context, dst []byte, contentType, coding string, body []byte) (head []byte, signed time.Time, err error) {
	dst = append(dst, h.fixed...)
	dst = append(dst, "Content-Type: "...)
	dst = append(dst, contentType...)
	if coding != "" {
		dst = append(dst, "\r\nContent-Encoding: "...)
		dst = append(dst, coding...)
	}
	dst = append(dst, "\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(body)), 10)
	dst = append(dst, "\r\n"...)
	if h.signer != nil {
		u := *h.url
		r := &http.Request{Method: http.MethodPost, URL: &u, Host: hostHeader(h.url), Header: h.header.Clone()}
		r.Header.Set("Content-Type", contentType)
		var signature http.Header
		if signature, signed, err = h.signer.sign(ctx, r, body); err != nil {
			return nil, signed, err
		}
		dst = appendHeader(dst, signature)
	}
	return append(dst, "\r\n"...), signed, nil
}

// appendHeader appends the lines of header to dst, sorted by name.
func appendHeader(dst []byte, header http.Header) []byte {
	for _, name := range slices.Sorted(maps.Keys(header)) {
		for _, v := range header[name] {
			dst = append(append(append(append(dst, name...), ": "...), textproto.TrimString(v)...), "\r\n"...)
		}
	}
	return dst
}

// redact hides the destination's secrets in a text that came from the backend.
func (h *head) redact(text string) string {
	text = hide(text, h.secrets)
	if h.signer != nil {
		text = h.signer.redact(text)
	}
	return text
}

func hide(text string, secrets []string) string {
	for _, s := range secrets {
		text = strings.ReplaceAll(text, s, "[redacted]")
	}
	return text
}

// appendSecrets appends the values and, since schemes such as "Bearer" stand before a token, their words.
// What is shorter than any key is left alone: it is no secret, and hiding it would garble texts.
func appendSecrets(secrets []string, values ...string) []string {
	for _, v := range values {
		for _, s := range append([]string{v}, strings.Fields(v)...) {
			if len(s) >= 8 && !slices.Contains(secrets, s) {
				secrets = append(secrets, s)
			}
		}
	}
	return secrets
}

// checkURL refuses what no request can be sent to. Its errors hold no part of the URL: any may be a secret.
func checkURL(u *url.URL) error {
	switch {
	case u == nil:
		return errors.New("no endpoint URL: set OTLP_RELAY_ENDPOINT")
	case u.Scheme != "http" && u.Scheme != "https":
		return errors.New("endpoint URL must begin with https:// or http://")
	case u.Hostname() == "":
		return errors.New("endpoint URL has no host: write it as https://host[:port]/path")
	}
	for i := range len(u.Host) {
		if c := u.Host[i]; c <= ' ' || c >= 0x7f {
			return errors.New("endpoint URL's host holds characters outside ASCII: write it in its xn-- form")
		}
	}
	return nil
}

// checkHeader refuses what would break the message (RFC 9110 §5.1 and §5.5). Its errors hold no value.
func checkHeader(name string, values []string) error {
	const separators = "\"(),/:;<=>?@[\\]{}"
	if name == "" {
		return errors.New("header without a name: check OTLP_RELAY_HEADERS")
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(separators, c) >= 0 {
			// Not the name itself: a value that holds "=" or "," by mistake ends up in it.
			return fmt.Errorf("a header name of %d characters holds one that HTTP forbids: check OTLP_RELAY_HEADERS, name=value,name=value", len(name))
		}
	}
	for _, v := range values {
		for i := range len(v) {
			if c := v[i]; c < ' ' && c != '\t' || c == 0x7f {
				return fmt.Errorf("value of header %s holds a line break or control character: check OTLP_RELAY_HEADERS", name)
			}
		}
	}
	return nil
}

// hostHeader is the Host of a request to u: without an IPv6 zone, which means nothing to the peer, and without
// the scheme's own port, which a signature does not cover.
func hostHeader(u *url.URL) string {
	own := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	host := strings.TrimSuffix(strings.TrimSuffix(u.Host, ":"+own), ":")
	if open, end := strings.IndexByte(host, '%'), strings.IndexByte(host, ']'); open >= 0 && end > open {
		host = host[:open] + host[end:]
	}
	return host
}

func basicAuth(user *url.Userinfo) string {
	password, _ := user.Password()
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password))
}

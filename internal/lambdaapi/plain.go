package lambdaapi

import (
	"bufio"
	"bytes"
	"strconv"
)

// identifier is the field that answers Register. Go writes it so in http.Header.
const identifier = "Lambda-Extension-Identifier"

// special is the fields that make a head more than plain: those that frame the message in other ways than by its
// length, and what a caller wants to know.
var special = [...]string{"Transfer-Encoding", "Connection", "Upgrade", "Expect", "Trailer", identifier}

// readPlain passes the head of an HTTP/1.1 message that net/http need not be asked about, and returns the length of the
// body behind it: a head that is buffered already, whose first line the caller accepts, and which says nothing but a
// Content-Length of how messages follow one another. That is what nearly all heads are, and the CPU time of reading them
// is spent in each invocation. Where ok is false, nothing was passed.
func readPlain(r *bufio.Reader, accept func(first []byte) bool) (body int, ok bool) {
	b, _ := r.Peek(r.Buffered()) // it cannot fail
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		return 0, false
	}
	line, rest, _ := bytes.Cut(b[:end+2], []byte("\r\n"))
	if !accept(line) || bytes.IndexByte(line, '\n') >= 0 {
		return 0, false
	}
	body = -1
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		name, value, found := bytes.Cut(line, []byte(":"))
		if !found || !isPlain(name) || bytes.ContainsAny(value, "\r\n") {
			return 0, false
		}
		if !bytes.EqualFold(name, []byte("Content-Length")) {
			continue
		}
		n, err := strconv.ParseUint(string(bytes.Trim(value, " \t")), 10, 31)
		if err != nil || body >= 0 {
			return 0, false
		}
		body = int(n)
	}
	if body < 0 {
		return 0, false
	}
	r.Discard(end + 4)
	return body, true
}

// isPlain says whether a field's name is an ordinary one that is not special.
func isPlain(name []byte) bool {
	for _, c := range name {
		if !(c == '-' || '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z') {
			return false
		}
	}
	for _, s := range special {
		if bytes.EqualFold(name, []byte(s)) {
			return false
		}
	}
	return len(name) > 0
}

package otlp

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// The fields of google.rpc.Status.
const (
	statusCode    = 1
	statusMessage = 2
)

// AppendStatus appends the google.rpc.Status with which OTLP/HTTP answers an error. What is not UTF-8 in
// message becomes U+FFFD.
func AppendStatus(dst []byte, enc Encoding, code Code, message string) []byte {
	if enc == JSON {
		dst = append(dst, `{"code":`...)
		dst = strconv.AppendInt(dst, int64(code), 10)
		dst = append(dst, `,"message":`...)
		return append(appendJSONString(dst, message), '}')
	}
	dst = appendIntField(dst, statusCode, int64(code))
	return appendTextField(dst, statusMessage, message)
}

// ParseStatus reads a google.rpc.Status. Its details and fields it does not know are skipped; ok is false where
// body is anything else, or has neither code nor message.
func ParseStatus(enc Encoding, body []byte) (code Code, message string, ok bool) {
	if enc == JSON {
		return parseJSONStatus(body)
	}
	r := wireReader{b: body}
	for r.next() {
		switch {
		case r.num == statusCode && r.wire == wireVarint:
			code, ok = Code(int32(r.number)), true
		case r.is(statusMessage):
			if !utf8.Valid(r.content) {
				return 0, "", false
			}
			message, ok = string(r.content), true
		}
	}
	if r.fault != "" {
		return 0, "", false
	}
	return code, message, ok
}

func parseJSONStatus(body []byte) (code Code, message string, ok bool) {
	s := jsonScan{b: body}
	for more := s.enter('{', '}'); more; more = s.next('}') {
		name, value := s.key(), s.value()
		switch {
		case string(value) == "null":
		case jsonNameIs(name, "code"):
			n, isInt := jsonInt(value)
			if !isInt || int64(int32(n)) != n {
				return 0, "", false
			}
			code, ok = Code(n), true
		case jsonNameIs(name, "message"):
			if message, ok = jsonText(value); !ok {
				return 0, "", false
			}
		}
	}
	if !s.end() {
		return 0, "", false
	}
	return code, message, ok
}

// appendTextField appends a field of type string, unless it is empty. What is not UTF-8 in it becomes U+FFFD.
func appendTextField(dst []byte, num uint64, v string) []byte {
	if v == "" {
		return dst
	}
	return appendBytesField(dst, num, strings.ToValidUTF8(v, "\uFFFD"))
}

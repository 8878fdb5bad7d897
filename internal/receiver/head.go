package receiver

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// Values of answer headers; never written.
var (
	allowPost       = []string{http.MethodPost}
	acceptEncoding  = []string{"gzip, deflate, zstd, identity"}
	connectionClose = []string{"close"}
)

// readHead reads what the request is from its path, method and headers. k.encoding is JSON where the request
// does not say. h, the answer's header, gets the fields that go with a refusal.
func readHead(h http.Header, req *http.Request) (k kind, err error) {
	encoding, known := encodingOf(req.Header["Content-Type"])
	k.encoding = encoding
	signal, found := signalOf(req.URL.Path)
	_, ofGRPC := callOf(req.URL.Path)
	if !found && !ofGRPC {
		return k, refusal(http.StatusNotFound, otlp.NotFound,
			fmt.Sprintf("no such path %s: POST to %s", quote(req.URL.Path), paths()))
	}
	k.signal = signal
	if req.Method != http.MethodPost {
		h["Allow"] = allowPost
		return k, refusal(http.StatusMethodNotAllowed, otlp.Unimplemented,
			fmt.Sprintf("method %s on %s: only POST is allowed", quote(req.Method), req.URL.Path))
	}
	if ofGRPC {
		return k, refusal(http.StatusUnsupportedMediaType, otlp.InvalidArgument,
			fmt.Sprintf("Content-Type %s over %s: OTLP/gRPC has application/grpc, over HTTP/2", quoteAll(req.Header["Content-Type"]), req.Proto))
	}
	if !known {
		return k, refusal(http.StatusUnsupportedMediaType, otlp.InvalidArgument,
			fmt.Sprintf("Content-Type %s: only application/x-protobuf and application/json are supported", quoteAll(req.Header["Content-Type"])))
	}
	if k.compression, known = compressionOf(req.Header["Content-Encoding"]); !known {
		h["Accept-Encoding"] = acceptEncoding
		return k, refusal(http.StatusUnsupportedMediaType, otlp.InvalidArgument,
			fmt.Sprintf("Content-Encoding %s: only one of %s is supported", quoteAll(req.Header["Content-Encoding"]), acceptEncoding[0]))
	}
	return k, nil
}

// signalOf is the signal whose path this is.
func signalOf(path string) (otlp.Signal, bool) {
	for _, s := range otlp.Signals() {
		if s.Path() == path {
			return s, true
		}
	}
	return 0, false
}

// callOf is the signal whose Export method of OTLP/gRPC this path is.
func callOf(path string) (otlp.Signal, bool) {
	for _, s := range otlp.Signals() {
		if s.Method() == path {
			return s, true
		}
	}
	return 0, false
}

// paths lists every path there is, for the operator.
func paths() string {
	var list []string
	for _, s := range otlp.Signals() {
		list = append(list, s.Path())
	}
	return strings.Join(list, ", ")
}

// encodingOf reads Content-Type: in any case, with any parameters. The field given twice must say the same twice.
// An unknown one counts as JSON, which a human can read.
func encodingOf(values []string) (enc otlp.Encoding, known bool) {
	for i, v := range values {
		e, ok := mediaType(v)
		if !ok || i > 0 && e != enc {
			return otlp.JSON, false
		}
		enc = e
	}
	if len(values) == 0 {
		return otlp.JSON, false
	}
	return enc, true
}

func mediaType(v string) (otlp.Encoding, bool) {
	name, _, _ := strings.Cut(v, ";")
	name = strings.TrimSpace(name)
	for _, enc := range [...]otlp.Encoding{otlp.Protobuf, otlp.JSON} {
		if strings.EqualFold(name, enc.ContentType()) {
			return enc, true
		}
	}
	return otlp.JSON, false
}

// compressionOf reads Content-Encoding. It is a list (RFC 9110, 8.4), of which all but one must be identity.
func compressionOf(values []string) (c otlp.Compression, known bool) {
	for _, list := range values {
		for more := true; more; {
			var name string
			name, list, more = strings.Cut(list, ",")
			next, ok := coding(strings.TrimSpace(name))
			if !ok || next != otlp.None && c != otlp.None {
				return otlp.None, false
			}
			if next != otlp.None {
				c = next
			}
		}
	}
	return c, true
}

func coding(name string) (otlp.Compression, bool) {
	if name == "" || strings.EqualFold(name, "identity") {
		return otlp.None, true
	}
	for _, c := range [...]otlp.Compression{otlp.None, otlp.Gzip, otlp.Deflate, otlp.Zstd} {
		if strings.EqualFold(name, c.String()) {
			return c, true
		}
	}
	return otlp.None, false
}

// quote makes a client's own words printable, and short.
func quote(s string) string {
	const most = 128
	if len(s) > most {
		return fmt.Sprintf("%+q…", s[:most])
	}
	return fmt.Sprintf("%+q", s)
}

func quoteAll(values []string) string { return quote(strings.Join(values, ", ")) }

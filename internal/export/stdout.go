package export

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

const (
	// maxLine is the most bytes of a line, its end included. CloudWatch Logs takes events of 1 MiB, but Lambda
	// cuts what is written to stdout at 256 KiB.
	maxLine = 255 << 10

	// StdoutMaxBytes is the most that a request to a Stdout may hold, uncompressed: in base64, which adds a third,
	// it fits into a line even where it cannot be compressed.
	StdoutMaxBytes = 180 << 10
)

// Stdout is a Sink that prints each payload as one line of JSON, for people and for CloudWatch Logs subscriptions:
// the envelope of otlp-stdout, known by its first member __otel_otlp_stdout, with the signal, the number of records
// and of uncompressed bytes beside it. OTLP's JSON is printed as it is; protobuf is printed in base64 with the
// compression that it came in.
//
// Lines are written whole, one Write each. A payload that does not fit into one is refused as by HTTP's 413, so
// that its sender halves it. Send waits for as long as the writer does.
type Stdout struct {
	source []byte // in JSON

	mu    sync.Mutex // guards all below
	w     io.Writer
	unzip otlp.Decompressor
	raw   []byte
	line  bytes.Buffer
}

// NewStdout returns a Stdout that writes to w. source names who the telemetry is from: the function.
func NewStdout(w io.Writer, source string) *Stdout {
	s := &Stdout{w: w}
	s.source, _ = json.Marshal(source) // of a string that cannot fail
	return s
}

// Send prints p.
func (s *Stdout) Send(_ context.Context, p otlp.Payload) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.line.Reset()
	fmt.Fprintf(&s.line, `{"__otel_otlp_stdout":"otlp-relay@1","source":%s,"endpoint":"http://localhost:4318%s","method":"POST","content-type":%q,"signal":%q,"records":%d,"bytes":%d,`,
		s.source, p.Signal.Path(), p.Encoding.ContentType(), p.Signal.String(), p.Records, p.Size)
	if p.Encoding != otlp.JSON || !s.plain(p) {
		if p.Compression != otlp.None {
			fmt.Fprintf(&s.line, `"content-encoding":%q,`, p.Compression.String())
		}
		s.line.WriteString(`"base64":true,"payload":"`)
		enc := base64.NewEncoder(base64.StdEncoding, &s.line)
		enc.Write(p.Body)
		enc.Close()
		s.line.WriteByte('"')
	}
	s.line.WriteString("}\n")
	if n := s.line.Len(); n > maxLine {
		return &otlp.Error{
			Code: otlp.CodeForHTTP(http.StatusRequestEntityTooLarge), HTTPStatus: http.StatusRequestEntityTooLarge,
			Message: fmt.Sprintf("a line of %d bytes is more than the log takes, %d", n, maxLine),
		}
	}
	if _, err := s.w.Write(s.line.Bytes()); err != nil {
		return &otlp.Error{Code: otlp.Unavailable, Message: "print to stdout", Retryable: true, Err: err}
	}
	return nil
}

// plain adds the payload as JSON within the line's JSON. It says whether that is possible, and adds nothing else.
func (s *Stdout) plain(p otlp.Payload) bool {
	body := p.Body
	if p.Compression != otlp.None {
		var err error
		if s.raw, err = s.unzip.Append(s.raw[:0], p.Body, p.Compression, maxLine); err != nil {
			return false
		}
		body = s.raw
	}
	before := s.line.Len()
	s.line.WriteString(`"base64":false,"payload":`)
	if json.Compact(&s.line, body) != nil {
		s.line.Truncate(before)
		return false
	}
	return true
}

package otlptest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// grpcLine is one HTTP/2 connection, of net/http's client: it shows all of an answer, where grpc-go shows what it
// makes of it.
type grpcLine struct {
	g      *target
	t      *testing.T
	conn   net.Conn
	client *http.ClientConn
}

// dialGRPC opens a connection. What is written goes through wrap.
func (g *target) dialGRPC(t *testing.T, wrap func(net.Conn) net.Conn) *grpcLine {
	t.Helper()
	l := &grpcLine{g: g, t: t}
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	transport.DialContext = func(ctx context.Context, network, addr string) (c net.Conn, err error) {
		l.conn, err = new(net.Dialer).DialContext(ctx, network, addr)
		return wrap(l.conn), err
	}
	var err error
	if l.client, err = transport.NewClientConn(t.Context(), "http", g.addr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.client.Close() })
	return l
}

// head is what a request's head holds; the zero value is that of an Export of traces.
type head struct {
	method string
	path   string
	header http.Header
}

// headOf is the head for m.
func headOf(m message) head {
	h := head{path: GRPCMethods[m.Signal], header: http.Header{}}
	if m.coding != otlp.None {
		h.header.Set("Grpc-Encoding", m.coding.String())
	}
	return h
}

// frame is m as a gRPC message.
func (m message) frame() []byte {
	var compressed byte
	if m.coding != otlp.None {
		compressed = 1
	}
	return frame(compressed, m.sent)
}

func frame(flags byte, message []byte) []byte {
	f := binary.BigEndian.AppendUint32([]byte{flags}, uint32(len(message)))
	return append(f, message...)
}

// open begins a request. Its body is what is written to the exchange's body.
func (l *grpcLine) open(h head) *grpcExchange {
	l.t.Helper()
	if h.method == "" {
		h.method = http.MethodPost
	}
	if h.path == "" {
		h.path = GRPCMethods[otlp.Traces]
	}
	read, write := io.Pipe()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	l.t.Cleanup(cancel)
	q, err := http.NewRequestWithContext(ctx, h.method, "http://"+l.g.addr+l.g.prefix+h.path, read)
	if err != nil {
		l.t.Fatal(err)
	}
	q.Header.Set("Content-Type", "application/grpc")
	q.Header.Set("Te", "trailers")
	for name, values := range h.header {
		q.Header[name] = values
	}
	x := &grpcExchange{t: l.t, body: write, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(x.done)
		x.got, x.err = l.roundTrip(q)
		read.Close() // whoever still writes stops
	}()
	return x
}

// roundTrip sends q and reads the answer whole.
func (l *grpcLine) roundTrip(q *http.Request) (got grpcOutcome, err error) {
	r, err := l.client.RoundTrip(q)
	if err != nil {
		return got, err
	}
	defer r.Body.Close()
	got = grpcOutcome{status: r.StatusCode, header: r.Header, asked: q.Header.Get("Content-Type")}
	got.body, err = io.ReadAll(r.Body)
	got.trailer = r.Trailer
	return got, err
}

// begin sends the head and half of the message.
func (l *grpcLine) begin(m message, pieces int) exchange {
	l.t.Helper()
	x := l.open(headOf(m))
	body := m.frame()
	x.pieces, x.rest = pieces, body[len(body)/2:]
	x.write(body[:len(body)/2])
	return x
}

// send sends the whole request.
func (l *grpcLine) send(m message, pieces int) exchange {
	l.t.Helper()
	x := l.open(headOf(m))
	x.pieces, x.rest = pieces, m.frame()
	x.finish()
	return x
}

// cut ends the connection.
func (l *grpcLine) cut(hard bool) {
	if hard {
		l.conn.(*net.TCPConn).SetLinger(0)
	}
	l.conn.Close()
}

// grpcExchange is a call under way.
type grpcExchange struct {
	t      *testing.T
	body   *io.PipeWriter
	pieces int
	rest   []byte
	cancel context.CancelFunc

	done chan struct{}
	got  grpcOutcome // valid once done is closed, as is err
	err  error
}

// write sends DATA frames: one for each of the pieces, or as many as it takes. The receiver may have answered
// before it has read them all.
func (x *grpcExchange) write(b []byte) {
	for len(b) > 0 {
		n := len(b)
		if x.pieces > 0 {
			n = min(n, x.pieces)
		}
		if _, err := x.body.Write(b[:n]); err != nil {
			return
		}
		b = b[n:]
	}
}

// finish sends what is left, and that it is all.
func (x *grpcExchange) finish() {
	x.write(x.rest)
	x.body.Close()
}

// stop says that it is all.
func (x *grpcExchange) stop() { x.body.Close() }

// answer waits for the end of the answer.
func (x *grpcExchange) answer() outcome {
	x.t.Helper()
	<-x.done
	if x.err != nil {
		x.t.Fatalf("call: %v", x.err)
	}
	return x.got
}

// grpcOutcome is the answer to a call.
type grpcOutcome struct {
	asked           string // the request's Content-Type
	status          int
	header, trailer http.Header
	body            []byte
}

// response is the message of an answer with the status OK: one message in one frame, and the status behind it.
func (o grpcOutcome) response(t *testing.T) []byte {
	t.Helper()
	o.checkHead(t)
	if got := o.trailer["Grpc-Status"]; len(got) != 1 || got[0] != "0" || o.header["Grpc-Status"] != nil {
		t.Errorf("header %v, trailer %v; want the status 0 in the trailer", o.header, o.trailer)
		return nil
	}
	if len(o.body) < 5 || o.body[0] != 0 || int(binary.BigEndian.Uint32(o.body[1:])) != len(o.body)-5 {
		t.Errorf("body %q, want one message that is not compressed", o.body)
		return nil
	}
	return o.body[5:]
}

func (o grpcOutcome) checkHead(t *testing.T) {
	t.Helper()
	if o.status != http.StatusOK || len(o.header["Content-Type"]) != 1 || o.header.Get("Content-Type") != o.asked {
		t.Errorf("status %d, header %v; want 200 and %s", o.status, o.header, o.asked)
	}
	if o.header["Trailer"] != nil || o.header["Content-Length"] != nil {
		t.Errorf("header %v has fields that gRPC does not know", o.header)
	}
}

// refused is the status of an answer that has nothing else: gRPC calls it Trailers-Only.
func (o grpcOutcome) refused(t *testing.T) refusedAs {
	t.Helper()
	o.checkHead(t)
	if len(o.body) > 0 || len(o.trailer) > 0 || len(o.header["Grpc-Status"]) != 1 {
		t.Errorf("header %v, body %q, trailer %v; want a status alone", o.header, o.body, o.trailer)
		return refusedAs{}
	}
	code, err := strconv.Atoi(o.header.Get("Grpc-Status"))
	raw := o.header.Get("Grpc-Message")
	message, err2 := url.PathUnescape(raw)
	if err != nil || err2 != nil || strings.Trim(raw, " ") != raw {
		t.Errorf("status %q, message %q: %v, %v", o.header.Get("Grpc-Status"), raw, err, err2)
	}
	got := refusedAs{status: o.status, code: otlp.Code(code), message: message}
	if details := o.header["Grpc-Status-Details-Bin"]; details != nil {
		got.again = true
		retry := o.retryInfo(t, got)
		got.wait = retry.GetRetryDelay().AsDuration()
	}
	return got
}

// retryInfo reads the details with the official types: a Status that says the same, and a RetryInfo in it.
func (o grpcOutcome) retryInfo(t *testing.T, said refusedAs) *errdetails.RetryInfo {
	t.Helper()
	bin, err := base64.RawStdEncoding.DecodeString(o.header.Get("Grpc-Status-Details-Bin"))
	if err != nil {
		t.Fatal(err)
	}
	var st status.Status
	var retry errdetails.RetryInfo
	if err := proto.Unmarshal(bin, &st); err != nil || otlp.Code(st.Code) != said.code || st.Message != said.message || len(st.Details) != 1 {
		t.Fatalf("details %v (%v), want %+v with one detail", &st, err, said)
	}
	if err := st.Details[0].UnmarshalTo(&retry); err != nil || !bytes.HasPrefix([]byte(st.Details[0].TypeUrl), []byte("type.googleapis.com/")) {
		t.Fatalf("detail %v: %v", st.Details[0], err)
	}
	return &retry
}

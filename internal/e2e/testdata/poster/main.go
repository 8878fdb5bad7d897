// Command poster is a function without an SDK: it writes requests to the extension byte by byte as its orders
// say, and says what was answered. A request can be left half-written at the end of an invocation.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
)

// order is the event.
type order struct {
	Wires  [][]byte // all that is said on a connection with one request of HTTP/1.1 or gRPC; one after the other
	Hold   int      // bytes of the last one that are written by the invocation that says Resume
	Resume bool     // finish what was held back
	Async  bool     // do not wait for the answers
	Exit   bool     // then crash
}

// answer is what came back.
type answer struct {
	Status      int
	ContentType string
	Body        []byte // of gRPC all that came, up to the end of the call: nothing else is set then
}

// half is a request that is not written to its end.
type half struct {
	conn net.Conn
	grpc bool
	rest []byte
}

type function struct {
	addr string // for OTLP/HTTP
	grpc string // for OTLP/gRPC
	left half
	kept []net.Conn // whose answers nobody waits for
}

func main() {
	f := &function{addr: os.Getenv("OTLP_RELAY_HTTP_ADDR"), grpc: os.Getenv("OTLP_RELAY_GRPC_ADDR")}
	lambda.Start(f.handle)
}

func (f *function) handle(_ context.Context, o order) ([]answer, error) {
	var answers []answer
	if o.Resume {
		a, err := f.resume()
		if err != nil {
			return nil, fmt.Errorf("resume: %w", err)
		}
		answers = append(answers, a)
	}
	for i, wire := range o.Wires {
		hold := 0
		if i == len(o.Wires)-1 {
			hold = o.Hold
		}
		a, err := f.post(wire, hold, o.Async)
		switch {
		case err != nil:
			return nil, fmt.Errorf("post request %d: %w", i, err)
		case a != nil:
			answers = append(answers, *a)
		}
	}
	if o.Exit {
		os.Exit(3)
	}
	return answers, nil
}

// post writes a request but for its last hold bytes. There is no answer where some are held back, or where
// nobody waits.
func (f *function) post(wire []byte, hold int, async bool) (*answer, error) {
	addr, grpc := f.addr, bytes.HasPrefix(wire, []byte("PRI * "))
	if grpc {
		addr = f.grpc
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(wire[:len(wire)-hold]); err != nil {
		return nil, err
	}
	switch {
	case hold > 0:
		f.left = half{conn, grpc, wire[len(wire)-hold:]}
		return nil, nil
	case async:
		f.kept = append(f.kept, conn)
		return nil, nil
	}
	a, err := read(conn, grpc)
	return &a, err
}

func (f *function) resume() (answer, error) {
	if f.left.conn == nil {
		return answer{}, errors.New("nothing was held back")
	}
	defer func() { f.left = half{} }()
	if _, err := f.left.conn.Write(f.left.rest); err != nil {
		return answer{}, err
	}
	return read(f.left.conn, f.left.grpc)
}

func read(conn net.Conn, grpc bool) (answer, error) {
	defer conn.Close()
	if grpc {
		raw, err := frames(conn)
		return answer{Body: raw}, err
	}
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return answer{}, fmt.Errorf("read the answer: %w", err)
	}
	body, err := io.ReadAll(r.Body)
	return answer{r.StatusCode, r.Header.Get("Content-Type"), body}, err
}

// frames reads HTTP/2 frames up to the one that ends the first stream.
func frames(r io.Reader) (raw []byte, err error) {
	const head, endStream = 9, 1
	for {
		at := len(raw)
		raw = append(raw, make([]byte, head)...)
		if _, err := io.ReadFull(r, raw[at:]); err != nil {
			return nil, fmt.Errorf("read the answer: %w", err)
		}
		raw = append(raw, make([]byte, binary.BigEndian.Uint32(raw[at:])>>8)...)
		if _, err := io.ReadFull(r, raw[at+head:]); err != nil {
			return nil, fmt.Errorf("read the answer: %w", err)
		}
		stream := binary.BigEndian.Uint32(raw[at+5:])
		if kind := raw[at+3]; stream == 1 && kind <= 1 && raw[at+4]&endStream != 0 { // DATA or HEADERS
			return raw, nil
		}
	}
}

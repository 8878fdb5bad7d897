// Command poster is a function without an SDK: it writes requests to the extension byte by byte as its orders
// say, and says what was answered. A request can be left half-written at the end of an invocation.
package main

import (
	"bufio"
	"context"
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
	Wires  [][]byte // whole HTTP requests, one after the other, each on a connection of its own
	Hold   int      // bytes of the last one that are written by the invocation that says Resume
	Resume bool     // finish what was held back
	Async  bool     // do not wait for the answers
	Exit   bool     // then crash
}

// answer is what came back.
type answer struct {
	Status      int
	ContentType string
	Body        []byte
}

// half is a request that is not written to its end.
type half struct {
	conn net.Conn
	rest []byte
}

type function struct {
	addr string
	left half
	kept []net.Conn // whose answers nobody waits for
}

func main() {
	f := &function{addr: os.Getenv("OTLP_RELAY_HTTP_ADDR")}
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
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(wire[:len(wire)-hold]); err != nil {
		return nil, err
	}
	switch {
	case hold > 0:
		f.left = half{conn, wire[len(wire)-hold:]}
		return nil, nil
	case async:
		f.kept = append(f.kept, conn)
		return nil, nil
	}
	a, err := read(conn)
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
	return read(f.left.conn)
}

func read(conn net.Conn) (answer, error) {
	defer conn.Close()
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return answer{}, fmt.Errorf("read the answer: %w", err)
	}
	body, err := io.ReadAll(r.Body)
	return answer{r.StatusCode, r.Header.Get("Content-Type"), body}, err
}

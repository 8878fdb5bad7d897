package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// front stands before a Backend and passes on what comes. Its connections can be cut.
type front struct {
	URL     string
	backend *otlptest.Backend

	mu    sync.Mutex
	conns map[net.Conn]bool // to clients; guarded by mu
}

func newFront(t *testing.T, o otlptest.Options) *front {
	f := &front{backend: newBackend(t, o), conns: map[net.Conn]bool{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.URL = strings.Replace(f.backend.URL(), f.backend.Addr(), l.Addr().String(), 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns[c] = true
			f.mu.Unlock()
			wg.Go(func() { f.pass(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		f.cut(true)
		wg.Wait()
	})
	return f
}

// pass carries what a client and the backend say to each other, until one of them closes.
func (f *front) pass(client net.Conn) {
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		client.Close()
		delete(f.conns, client)
	}()
	back, err := net.Dial("tcp", f.backend.Addr())
	if err != nil {
		return
	}
	defer back.Close()
	go func() {
		io.Copy(back, client)
		back.Close()
	}()
	io.Copy(client, back)
}

// cut ends every connection, with a FIN or a RST.
func (f *front) cut(rst bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		if rst {
			c.(*net.TCPConn).SetLinger(0)
		}
		c.Close()
	}
}

// protocols are what a backend speaks, by name.
var protocols = map[string]otlptest.Options{"HTTP": {}, "gRPC": {GRPC: true}}

// The backend ends the connections that it keeps, while the environment is frozen: nothing is lost, sent
// twice, or even noticed.
func TestConnectionsThatDieInAFreeze(t *testing.T) {
	const rounds = 30
	for _, mode := range []string{"end", "next"} { // in interval mode a request may be under way at a freeze
		for name, rst := range map[string]bool{"closed": false, "reset": true} {
			for protocol, o := range protocols {
				t.Run(mode+"/"+name+"/"+protocol, func(t *testing.T) {
					f := newFront(t, o)
					vars := faultVars(mode)
					vars["OTLP_RELAY_ENDPOINT"], vars["OTLP_RELAY_FLUSH_TIMEOUT"] = f.URL, "5s" // enough for any machine
					c := newChain(t, setup{backend: f.backend, vars: vars})
					for range rounds {
						c.invoke(1)
						f.cut(rst)
					}
					c.mustArrive(c.shutdown())
					if lines := c.logged("level=WARN"); len(lines) > 0 {
						t.Errorf("logged %q", lines)
					}
					requests := 0
					for _, sig := range threeSignals {
						requests += c.backend.Totals(sig).Requests
					}
					if requests < rounds {
						t.Errorf("%d requests: this test proves nothing", requests)
					}
				})
			}
		}
	}
}

// Connections die at any moment, also under a request: nothing is lost.
func TestConnectionsThatDieAtAnyTime(t *testing.T) {
	for _, mode := range modes {
		for protocol, o := range protocols {
			t.Run(mode+"/"+protocol, func(t *testing.T) {
				f := newFront(t, o)
				vars := faultVars(mode)
				vars["OTLP_RELAY_ENDPOINT"] = f.URL
				c := newChain(t, setup{backend: f.backend, vars: vars})
				f.backend.SetDelay(2 * time.Millisecond)
				ctx, stop := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				wg.Go(func() {
					for ctx.Err() == nil {
						time.Sleep(rand.N(20 * time.Millisecond))
						f.cut(rand.IntN(2) == 0)
					}
				})
				for range 40 {
					c.invoke(1)
				}
				stop()
				wg.Wait()
				c.mustHaveEverything(c.shutdown())
			})
		}
	}
}

// A freeze that cuts an SDK's request in half is only a pause for it.
func TestFreezeInTheMiddleOfARequest(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			c, b := posters(t, setup{vars: faultVars(mode)})
			r := func() otlptest.Built { return b.Build(otlp.Traces, otlp.Protobuf, 20) }
			size := len(r().Body)
			for _, half := range []struct {
				name string
				wire func(otlptest.Built) []byte
				hold int // bytes that are sent after the freeze
			}{
				{"the last byte", wire, 1},
				{"half of the body", wire, size / 2},
				{"all but a byte of the body", wire, size - 1},
				{"all of the body", wire, size},
				{"a part of the head", wire, size + 30},
				{"the end of a chunked body", chunked, 5},
				{"half of a chunked body", chunked, size / 2},
				{"a part of a compressed body", gzipped, 100},
				{"the end of a gRPC call", call, 9},
				{"half of a frame's head", call, 13},
				{"half of a gRPC message", call, size / 2},
				{"a part of a gRPC call's head", call, size + 40},
			} {
				request, whole := r(), r()
				var answers []answer
				c.mustSend(posting{Wires: [][]byte{wire(whole), half.wire(request)}, Hold: half.hold}, &answers)
				c.mustBeTaken(answers[0], whole)
				other := r()
				c.mustSend(posting{Wires: [][]byte{wire(other)}, Resume: true}, &answers)
				if len(answers) != 2 {
					t.Fatalf("%s: %d answers", half.name, len(answers))
				}
				c.mustBeTaken(answers[0], request)
				c.mustBeTaken(answers[1], other)
			}
			c.mustArrive(c.shutdown())
		})
	}
}

// chunked is the request in a body of unknown length, in pieces of 1000 bytes.
func chunked(r otlptest.Built) []byte {
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n",
		r.Signal.Path(), r.Encoding.ContentType())
	out := []byte(head)
	for body := r.Body; len(body) > 0; {
		n := min(1000, len(body))
		out = fmt.Appendf(out, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	return append(out, "0\r\n\r\n"...)
}

// call is the request over gRPC.
func call(r otlptest.Built) []byte {
	message := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(r.Body))), r.Body...)
	return otlptest.GRPCWire(otlptest.GRPCMethods[r.Signal], http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}, message)
}

func gzipped(r otlptest.Built) []byte {
	var body bytes.Buffer
	z := gzip.NewWriter(&body)
	z.Write(r.Body)
	z.Close()
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n",
		r.Signal.Path(), r.Encoding.ContentType(), body.Len())
	return append([]byte(head), body.Bytes()...)
}

// A freeze comes between a request and the backend's answer, which lies in the socket after the thaw: it
// counts, however late it is read, and nothing is sent twice.
func TestFreezeInTheMiddleOfAnExport(t *testing.T) {
	thaws := map[string]func(*chain){
		"thawed by an invocation": func(c *chain) { c.invoke(1) },
		"thawed by SHUTDOWN":      func(*chain) {},
	}
	for timeout, frozen := range map[string]time.Duration{
		"10s":   600 * time.Millisecond,
		"250ms": 1500 * time.Millisecond, // passes while frozen
	} {
		for name, thaw := range thaws {
			for _, closes := range []bool{false, true} {
				for protocol, o := range protocols {
					t.Run(fmt.Sprintf("%s/timeout of %s/backend closes %v/%s", name, timeout, closes, protocol), func(t *testing.T) {
						f := newFront(t, o)
						f.backend.SetDelay(200 * time.Millisecond)
						c := newChain(t, setup{backend: f.backend, vars: map[string]string{
							"OTLP_RELAY_FLUSH": "end", "OTLP_RELAY_FLUSH_TIMEOUT": "30ms", "OTLP_RELAY_TIMEOUT": timeout,
							"OTLP_RELAY_ENDPOINT": f.URL,
						}})
						c.invoke(1)
						c.gap(frozen)
						if closes {
							f.cut(false)
						}
						f.backend.SetDelay(0)
						if n := c.backend.Totals(otlp.Traces).Taken; n != 1 {
							t.Fatalf("%d requests before the freeze, want the one that is on its way", n)
						}
						thaw(c)
						c.mustArrive(c.shutdown())
					})
				}
			}
		}
	}
}

// Where the answer was lost with its connection, the data is sent again.
func TestAnswerLostInAFreeze(t *testing.T) {
	for _, mode := range []string{"end", "next"} {
		for protocol, o := range protocols {
			t.Run(mode+"/"+protocol, func(t *testing.T) {
				f := newFront(t, o)
				vars := faultVars(mode)
				vars["OTLP_RELAY_ENDPOINT"], vars["OTLP_RELAY_TIMEOUT"] = f.URL, "10s"
				c := newChain(t, setup{backend: f.backend, vars: vars})
				f.backend.Fail(otlptest.Fault{Kind: otlptest.Hang, Take: true})
				c.invoke(1)
				c.invoke(1)
				f.cut(true)
				f.backend.Heal()
				c.invoke(1)
				c.mustHaveEverything(c.shutdown())
			})
		}
	}
}

// What an SDK sent last, without waiting for the answer, lies in the extension's sockets at SHUTDOWN.
func TestRequestsInTheSocketsAtShutdown(t *testing.T) {
	for _, mode := range modes {
		for range 5 {
			t.Run(mode, func(t *testing.T) {
				c, b := posters(t, setup{vars: faultVars(mode)})
				c.post(b.Build(otlp.Traces, otlp.Protobuf, 1))
				for range 4 { // the environment is frozen: only its kernel takes these
					conn, err := net.Dial("tcp", c.addr)
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					request := b.Build(otlp.Traces, otlp.Protobuf, 10)
					if _, err := conn.Write(wire(request)); err != nil {
						t.Fatal(err)
					}
					c.made[otlp.Traces] += len(request.IDs)
				}
				c.mustArrive(c.shutdown())
			})
		}
	}
}

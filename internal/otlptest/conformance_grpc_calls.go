package otlptest

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// calls sends heads as SDKs and others write them.
func (s suite) calls(t *testing.T) {
	g := s.target(t, suiteLimit)
	l := g.dialGRPC(t, plain)
	traces := GRPCMethods[otlp.Traces]
	with := func(pairs ...string) head {
		h := head{header: http.Header{}}
		for i := 0; i < len(pairs); i += 2 {
			h.header[pairs[i]] = []string{pairs[i+1]}
		}
		return h
	}
	ct := func(value string) head { return with("Content-Type", value) }
	path := func(path string) head { return head{path: path} }
	const ok, unimplemented, internal = otlp.OK, otlp.Unimplemented, otlp.Internal
	tests := []struct {
		name   string
		head   head
		flags  byte
		code   otlp.Code
		status int // 0: an answer of gRPC
		says   string
	}{
		{"proto", ct("application/grpc+proto"), 0, ok, 0, ""},
		{"no te", with("Te", ""), 0, ok, 0, ""},
		{"Go", with("Grpc-Timeout", "9997714u", "Grpc-Accept-Encoding", "gzip", "User-Agent", "OTel OTLP Exporter Go/1.47.0 grpc-go/1.83.2"), 0, ok, 0, ""},
		{"Python", with("Grpc-Timeout", "10S", "Grpc-Accept-Encoding", "identity, deflate, gzip"), 0, ok, 0, ""},
		{"JavaScript", with("Grpc-Timeout", "9985m", "Accept-Encoding", "identity"), 0, ok, 0, ""},
		{"Java", with("Content-Length", ""), 0, ok, 0, ""},
		{"longest timeout", with("Grpc-Timeout", "99999999H"), 0, ok, 0, ""},
		{"tokens", with("Authorization", "Bearer x", "X-Bin", "AAAA"), 0, ok, 0, ""},
		{"identity", with("Grpc-Encoding", "identity"), 0, ok, 0, ""},
		{"gzip for other messages", with("Grpc-Encoding", "gzip"), 0, ok, 0, ""},
		{"an encoding for other messages", with("Grpc-Encoding", "snappy"), 0, ok, 0, ""},

		{"unknown encoding", with("Grpc-Encoding", "snappy"), 1, unimplemented, 0, "snappy"},
		{"compressed by nothing", with("Grpc-Encoding", "identity"), 1, internal, 0, "grpc-encoding"},
		{"compressed, not said how", head{}, 1, internal, 0, "grpc-encoding"},
		{"unknown flags", head{}, 2, internal, 0, "2"},
		{"timeout without a unit", with("Grpc-Timeout", "10"), 0, internal, 0, "grpc-timeout"},
		{"timeout without a number", with("Grpc-Timeout", "S"), 0, internal, 0, "grpc-timeout"},
		{"timeout of too many digits", with("Grpc-Timeout", "123456789S"), 0, internal, 0, "grpc-timeout"},
		{"timeout below 0", with("Grpc-Timeout", "-1S"), 0, internal, 0, "grpc-timeout"},
		{"unknown method", path(strings.Replace(traces, "Export", "Import", 1)), 0, unimplemented, 0, "Import"},
		{"unknown service", path("/grpc.health.v1.Health/Check"), 0, unimplemented, 0, "Health"},
		{"profiles under v1", path(strings.Replace(GRPCMethods[otlp.Profiles], "v1development", "v1", 1)), 0, unimplemented, 0, ""},
		{"path of OTLP/HTTP", path("/v1/traces"), 0, unimplemented, 0, ""},
		{"path goes on", path(traces + "/x"), 0, unimplemented, 0, ""},

		{"JSON", ct("application/grpc+json"), 0, 0, 415, ""},
		{"gRPC-Web", ct("application/grpc-web+proto"), 0, 0, 415, ""},
		{"protobuf", ct("application/x-protobuf"), 0, 0, 415, ""},
		{"text", ct("text/plain"), 0, 0, 415, ""},
		{"no type", ct(""), 0, 0, 415, ""},
		{"GET", head{method: "GET"}, 0, 0, 405, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := s.message(otlp.Traces, otlp.Protobuf, otlp.None, 2)
			x := l.open(tt.head)
			x.rest = frame(tt.flags, m.sent)
			x.finish()
			o := x.answer().(grpcOutcome)
			switch {
			case tt.status != 0:
				if o.status != tt.status || o.header["Grpc-Status"] != nil {
					t.Errorf("status %d, header %v; want %d", o.status, o.header, tt.status)
				}
			case tt.code == otlp.OK:
				mustTake(t, o, otlp.Protobuf)
				g.checkTaken(t, m)
			default:
				got := o.refused(t)
				if got.code != tt.code || !strings.Contains(got.message, tt.says) || got.again {
					t.Errorf("refused with %+v, want code %v and %q", got, tt.code, tt.says)
				}
			}
			accepts := o.header.Get("Grpc-Accept-Encoding")
			if tt.says == "snappy" && (!strings.Contains(accepts, "gzip") || !strings.Contains(accepts, "identity")) {
				t.Errorf("grpc-accept-encoding %q", accepts)
			}
			g.checkTaken(t)
			g.goesOn(t, l)
		})
	}
}

// messages sends bodies that are not one message. The connection goes on.
func (s suite) messages(t *testing.T) {
	const limit = 10_000
	g := s.target(t, limit)
	l := g.dialGRPC(t, plain)
	m := s.message(otlp.Traces, otlp.Protobuf, otlp.None, 2)
	whole := string(frame(0, m.sent))
	huge := "\x00\xff\xff\xff\xff"
	tests := []struct {
		name, body string
		ends       bool
		code       otlp.Code
	}{
		{"none", "", true, otlp.Unimplemented},
		{"two", whole + whole, true, otlp.Unimplemented},
		{"two, one of them empty", whole + "\x00\x00\x00\x00\x00", true, otlp.Unimplemented},
		{"one and the beginning of another", whole + "\x00", true, otlp.Unimplemented},
		{"half a frame's head", whole[:3], true, otlp.Internal},
		{"a frame's head", whole[:5], true, otlp.Internal},
		{"a byte too few", whole[:len(whole)-1], true, otlp.Internal},
		{"announced too large", huge, false, otlp.ResourceExhausted}, // at once: the message never comes
		{"too large by one", string(frame(0, make([]byte, limit+1))), false, otlp.ResourceExhausted},
		{"too large, with all of it", string(frame(0, make([]byte, 2<<20))), true, otlp.ResourceExhausted},
	}
	for _, tt := range tests {
		for _, pieces := range []int{0, 1000} {
			t.Run(fmt.Sprint(tt.name, pieces), func(t *testing.T) {
				x := l.open(head{})
				x.pieces, x.rest = pieces, []byte(tt.body)
				if tt.ends {
					x.finish()
				} else {
					x.write(x.rest)
				}
				if got := x.answer().refused(t); got.code != tt.code || got.message == "" || got.again {
					t.Errorf("refused with %+v, want code %v", got, tt.code)
				}
				g.checkTaken(t)
				g.goesOn(t, l)
			})
		}
	}
}

// streams has many calls at once on one connection.
func (s suite) streams(t *testing.T) {
	t.Run("half a body, then others", func(t *testing.T) {
		g := s.target(t, suiteLimit)
		l := g.dial(t)
		m := s.message(otlp.Traces, otlp.Protobuf, otlp.None, 20)
		half := l.begin(m, 0)
		for range 100 {
			g.goesOn(t, l)
		}
		half.finish()
		mustTake(t, half.answer(), otlp.Protobuf)
		g.checkTaken(t, m)
	})
	t.Run("given up", func(t *testing.T) {
		m := s.message(otlp.Traces, otlp.Protobuf, otlp.None, 100)
		g := s.target(t, len(m.Body))
		l := g.dialGRPC(t, plain)
		for range 50 {
			x := l.begin(m, 1000).(*grpcExchange)
			x.cancel()
			<-x.done
		}
		mustTake(t, l.send(m, 0).answer(), otlp.Protobuf)
		g.checkTaken(t, m)
	})
	t.Run("more than memory and windows hold", func(t *testing.T) {
		// Those that wait for memory have unread bytes: these must not keep the others' bytes from coming.
		var want []message
		for i := range 60 {
			want = append(want, s.message(otlp.Logs, otlp.Protobuf, codings[i%2], 500+20*i))
		}
		g := s.target(t, len(want[len(want)-1].Body)*5/4)
		c, err := grpc.NewClient("passthrough:///"+g.addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry(),
			grpc.WithDefaultCallOptions(grpc.ForceCodecV2(bytesCodec{})))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		var calls sync.WaitGroup
		for _, m := range want {
			calls.Go(func() {
				opts := []grpc.CallOption{}
				if m.coding != otlp.None {
					opts = append(opts, grpc.UseCompressor("gzip"))
				}
				var reply []byte
				if err := c.Invoke(ctx, GRPCMethods[m.Signal], &m.Body, &reply, opts...); err != nil || len(reply) > 0 {
					t.Errorf("reply %q: %v", reply, err)
				}
			})
		}
		calls.Wait()
		got := g.sink.take()
		records := 0
		for _, p := range got {
			records += p.Records
		}
		made := 0
		for _, m := range want {
			made += len(m.IDs)
		}
		if len(got) != len(want) || records != made {
			t.Errorf("the sink got %d records in %d requests, want %d in %d", records, len(got), made, len(want))
		}
	})
}

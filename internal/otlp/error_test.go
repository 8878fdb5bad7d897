package otlp

import (
	"errors"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/code"
)

func TestCodeNames(t *testing.T) {
	for number, name := range code.Code_name {
		if got := Code(number).String(); got != name {
			t.Errorf("code %d is %s, want %s", number, got, name)
		}
	}
	for number, want := range map[Code]string{-1: "code -1", 17: "code 17"} {
		if got := number.String(); got != want {
			t.Errorf("code %d is %s, want %s", number, got, want)
		}
	}
}

func TestErrorText(t *testing.T) {
	reset := errors.New("connection reset")
	for want, e := range map[string]Error{
		"HTTP 503: busy":           {Code: Unavailable, HTTPStatus: 503, Message: "busy"},
		"HTTP 503":                 {Code: Unavailable, HTTPStatus: 503, Err: reset},
		"send: connection reset":   {Code: Unavailable, Message: "send", Err: reset},
		"connection reset":         {Code: Unavailable, Err: reset},
		"gRPC UNAUTHENTICATED: no": {Code: Unauthenticated, Message: "no"},
		"gRPC INTERNAL":            {Code: Internal},
	} {
		if got := e.Error(); got != want {
			t.Errorf("%+v says %q, want %q", e, got, want)
		}
	}
}

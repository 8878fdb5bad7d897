package export

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// noProtocol is what crypto/tls calls the alert of a peer that speaks no protocol of ours (RFC 7301 §3.2).
const noProtocol = "no application protocol"

// dialError is the error of a TCP connection that did not come about.
type dialError struct{ error }

func (e dialError) Unwrap() error { return e.error }

// noAnswer is the error of an exchange that ended without a response. The backend may have taken the
// request or not; OTLP lets the sender try again.
func (l *link) noAnswer(ctx context.Context, err error) *otlp.Error {
	message := "send to " + l.dialer.addr
	var dial dialError
	if errors.As(err, &dial) {
		message = "connect to " + l.dialer.addr
	}
	if l.dialer.proxy != nil {
		message += " through proxy " + l.dialer.proxy.addr
	}
	switch {
	case ctx.Err() == nil:
		if advice := l.advice(err); advice != "" {
			message += " (" + advice + ")"
		}
		e := &otlp.Error{Code: otlp.Unavailable, Message: message, Retryable: true, Err: err}
		if reset, ok := errors.AsType[resetError](err); ok {
			e.Code = reset.code()
		}
		return e
	case dial.error != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		message += " (" + silence + ")"
	}
	return ended(ctx, message)
}

// silence is the advice where packets get no answer.
const silence = "nothing answers there: does a security group or the VPC's routing drop packets?"

// advice says what a user can do about err, or what it means where its own text is obscure.
func (l *link) advice(err error) string {
	peer := "backend"
	if l.dialer.proxy != nil {
		peer = "proxy"
	}
	plain, here := "an http://", "is it an OTLP/HTTP endpoint? gRPC's port is another one"
	if l.dialer.protocol == overHTTP2 {
		plain, here = "a grpc://", notGRPC
	}
	if advice := tlsAdvice(err, plain, here); advice != "" {
		return advice
	}
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		return "check the host's name; in a VPC, whether it can be resolved there"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "is the " + peer + " running there?"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return "does the function's VPC have a route to it?"
	case errors.Is(err, syscall.ETIMEDOUT):
		return silence
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.ErrUnexpectedEOF):
		return "the " + peer + " closed the connection without an answer"
	case errors.Is(err, errIsTLS):
		return "is it a grpcs:// endpoint?"
	case errors.Is(err, errNotHTTP), errors.Is(err, errNotHTTP2), errors.Is(err, errIsHTTP1):
		return here
	}
	return ""
}

// notGRPC is the advice where something else answers.
const notGRPC = "is it an OTLP/gRPC endpoint? OTLP/HTTP's port is another one"

// tlsAdvice is advice for errors of TLS. plain is the scheme of an endpoint without, and here asks whether it is
// the right endpoint.
func tlsAdvice(err error, plain, here string) string {
	var (
		unknown x509.UnknownAuthorityError
		noRoots x509.SystemRootsError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		record  tls.RecordHeaderError
		op      *net.OpError
	)
	switch {
	case errors.As(err, &unknown), errors.As(err, &noRoots):
		return "set OTLP_RELAY_CERTIFICATE to a PEM file with its certificate authority"
	case errors.As(err, &name):
		return "the certificate is another host's: check OTLP_RELAY_ENDPOINT"
	case errors.As(err, &invalid):
		return "the certificate is not valid: renew it, or check the clock"
	case errors.As(err, &record):
		return "it does not speak TLS: is it " + plain + " endpoint?"
	case errors.As(err, &op) && op.Op == "remote error" && strings.Contains(op.Err.Error(), noProtocol):
		return here
	case errors.As(err, &op) && op.Op == "remote error":
		return "it refuses our side of TLS: does it want OTLP_RELAY_CLIENT_CERTIFICATE and OTLP_RELAY_CLIENT_KEY?"
	}
	return ""
}

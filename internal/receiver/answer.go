package receiver

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// answer writes the response that OTLP/HTTP has for err (specification, "OTLP/HTTP Response"), and says
// whether the request was taken.
func (r *Receiver) answer(w http.ResponseWriter, k kind, err error) (taken bool) {
	ok := &r.success[k.encoding]
	h := w.Header()
	h["Content-Type"] = ok.contentType
	if err == nil {
		h["Content-Length"] = ok.length
		w.WriteHeader(http.StatusOK)
		w.Write(ok.body)
		return true
	}
	if partial, is := errors.AsType[*otlp.PartialSuccess](err); is {
		write(w, http.StatusOK, otlp.AppendResponse(nil, k.encoding, k.signal, partial))
		return true
	}
	e := asError(err)
	if e.RetryAfter > 0 {
		h["Retry-After"] = []string{strconv.FormatInt(int64((e.RetryAfter-1)/time.Second)+1, 10)}
	}
	write(w, statusOf(e), otlp.AppendStatus(nil, k.encoding, e.Code, e.Message))
	return false
}

// write sends what is left of an answer. An error means that nobody is there to read it.
func write(w http.ResponseWriter, status int, body []byte) {
	w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	w.Write(body)
}

// asError is err as an *otlp.Error that can be written: an error of unknown kind is a fault of this side, and
// one that no backend gave a message to has its cause for message.
func asError(err error) *otlp.Error {
	e, is := errors.AsType[*otlp.Error](err)
	if !is {
		return refusal(http.StatusInternalServerError, otlp.Internal, "internal error: "+err.Error())
	}
	if e.Message == "" && e.HTTPStatus == 0 && e.Err != nil {
		named := *e
		named.Message = e.Error()
		return &named
	}
	return e
}

// statusOf is the HTTP status that carries e. Where a backend gave none, the sender must at least learn
// whether it may try again.
func statusOf(err error) int {
	e := asError(err)
	if e.HTTPStatus >= 400 && e.HTTPStatus <= 599 {
		return e.HTTPStatus
	}
	status := otlp.HTTPStatus(e.Code)
	switch {
	case e.Retryable && !retryable(status):
		return http.StatusServiceUnavailable
	case !e.Retryable && e.Code == otlp.ResourceExhausted:
		return http.StatusRequestEntityTooLarge // what gRPC means by it where no retry helps
	case !e.Retryable && (retryable(status) || status < 400):
		return http.StatusInternalServerError
	}
	return status
}

// retryable says whether OTLP lets a client send the same request again after status.
func retryable(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// refusal is an answer of the receiver's own.
func refusal(status int, code otlp.Code, message string) *otlp.Error {
	return &otlp.Error{Code: code, HTTPStatus: status, Message: message, Retryable: retryable(status)}
}

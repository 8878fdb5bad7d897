package lambdasim

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// The largest response: 6 MiB and 100 bytes.
const maxResponse = 6<<20 + 100

// runtimeNext is GET /runtime/invocation/next.
func (e *Env) runtimeNext(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	box := e.live(w, r)
	if box == nil {
		return
	}
	e.mu.Lock()
	runtime := box.runtime
	e.mu.Unlock()
	runtime.awaitLaunch()
	e.mu.Lock()
	if c := box.current; c != nil && !c.closed && !c.responded {
		e.mu.Unlock()
		e.giveCall(w, c) // asked again before it answered: the platform repeats itself
		return
	}
	if box.firstNext.IsZero() {
		box.firstNext = now
		if runtime != nil {
			runtime.firstNext, runtime.cpuFirstNext = now, runtime.cpuTime()
		}
	}
	p := &poller{calls: make(chan *call, 1)}
	box.pollers = append(box.pollers, p)
	e.completeLocked(box, now)
	e.notifyLocked()
	e.mu.Unlock()

	select {
	case c := <-p.calls:
		e.giveCall(w, c)
	case <-r.Context().Done():
		e.mu.Lock()
		box.pollers = slices.DeleteFunc(box.pollers, func(q *poller) bool { return q == p })
		e.mu.Unlock()
	case <-box.over:
		e.refuse(w, r, http.StatusInternalServerError, "InternalServerError", "Internal Server Error")
	}
}

// completeLocked takes a next of the runtime as the end of the invocation it had, on demand, and emits
// platform.runtimeDone: now, not when the response came. The caller holds mu.
func (e *Env) completeLocked(box *sandbox, now time.Time) {
	ev := Event{At: now, Kind: KindRuntimeNext, Process: FunctionProcess}
	if c := box.current; c != nil && !c.closed && c.done.IsZero() {
		c.done = now
		ev.RequestID = c.id
		e.hub.emit(e.runtimeDoneEvent(c, now, StatusSuccess, ""))
	}
	e.rec.add(ev)
}

// giveCall answers a next with an invocation.
func (e *Env) giveCall(w http.ResponseWriter, c *call) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(c.payload)))
	h.Set("Lambda-Runtime-Aws-Request-Id", c.id)
	h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(c.deadline.UnixMilli(), 10))
	h.Set("Lambda-Runtime-Invoked-Function-Arn", e.id.arn)
	h.Set("Lambda-Runtime-Trace-Id", c.trace)
	e.rec.add(Event{Kind: KindInvoke, Process: FunctionProcess, RequestID: c.id})
	w.Write(c.payload)
}

// runtimeResponse is POST /runtime/invocation/{id}/response.
func (e *Env) runtimeResponse(w http.ResponseWriter, r *http.Request) {
	c := e.beginAnswer(w, r)
	if c == nil {
		return
	}
	body, first, err := readAnswer(w, r)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		e.answer(c, nil, &FunctionError{"Function.ResponseSizeTooLarge", "Response payload size exceeded maximum allowed payload size (6291556 bytes)."}, first)
		e.refuse(w, r, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "Exceeded maximum allowed payload size (6291556 bytes).")
	case err != nil:
		e.answer(c, nil, &FunctionError{"Runtime.TruncatedResponse", "HTTP request detected as truncated"}, first)
		e.refuse(w, r, http.StatusBadRequest, "TruncatedHTTPRequest", "HTTP request detected as truncated")
	case r.Trailer.Get("Lambda-Runtime-Function-Error-Type") != "": // an error in the middle of a stream
		detail, _ := base64.StdEncoding.DecodeString(r.Trailer.Get("Lambda-Runtime-Function-Error-Body"))
		e.answer(c, nil, functionError(r.Trailer.Get("Lambda-Runtime-Function-Error-Type"), detail), first)
		reply(w, http.StatusAccepted, acceptedBody)
	default:
		e.answer(c, body, nil, first)
		reply(w, http.StatusAccepted, acceptedBody)
	}
}

// runtimeError is POST /runtime/invocation/{id}/error.
func (e *Env) runtimeError(w http.ResponseWriter, r *http.Request) {
	c := e.beginAnswer(w, r)
	if c == nil {
		return
	}
	body, first, err := readAnswer(w, r)
	if err != nil {
		body = nil
	}
	e.answer(c, nil, functionError(r.Header.Get("Lambda-Runtime-Function-Error-Type"), body), first)
	reply(w, http.StatusAccepted, acceptedBody)
}

// runtimeInitError is POST /runtime/init/error.
func (e *Env) runtimeInitError(w http.ResponseWriter, r *http.Request) {
	box := e.live(w, r)
	if box == nil {
		return
	}
	body, _, _ := readAnswer(w, r)
	ferr := functionError(r.Header.Get("Lambda-Runtime-Function-Error-Type"), body)
	e.mu.Lock()
	late := !box.firstNext.IsZero()
	if !late {
		e.failLocked(box, FunctionProcess, ferr.Type, ferr.Message)
	}
	e.mu.Unlock()
	if late {
		e.refuse(w, r, http.StatusForbidden, "InvalidStateTransition", "State transition from Ready to InitError failed for runtime.")
		return
	}
	reply(w, http.StatusAccepted, acceptedBody)
}

// beginAnswer claims the right to answer the invocation that the path names, or refuses.
func (e *Env) beginAnswer(w http.ResponseWriter, r *http.Request) *call {
	box := e.live(w, r)
	if box == nil {
		return nil
	}
	e.mu.Lock()
	c := box.calls[r.PathValue("id")]
	known := c != nil && !c.closed
	taken := known && c.answering
	if known {
		c.answering = true
	}
	e.mu.Unlock()
	switch {
	case !known:
		e.refuse(w, r, http.StatusBadRequest, "InvalidRequestID", "Invalid request ID")
	case taken:
		e.refuse(w, r, http.StatusForbidden, "InvalidStateTransition", "State transition from ResponseSent to InvocationResponse failed for runtime.")
	default:
		return c
	}
	return nil
}

// readAnswer reads the body and notes when its first byte came.
func readAnswer(w http.ResponseWriter, r *http.Request) (body []byte, first time.Time, err error) {
	in := http.MaxBytesReader(w, r.Body, maxResponse)
	var one [1]byte
	n, err := io.ReadFull(in, one[:])
	first = time.Now()
	if err == io.EOF {
		return nil, first, nil
	}
	if err != nil {
		return nil, first, err
	}
	rest, err := io.ReadAll(in)
	return append(one[:n], rest...), first, err
}

// answer completes the call: from here the client has its response.
func (e *Env) answer(c *call, body []byte, ferr *FunctionError, first time.Time) {
	now := time.Now()
	e.mu.Lock()
	c.response, c.err = body, ferr
	c.firstByte, c.responseAt, c.responded = first, now, true
	e.notifyLocked()
	e.mu.Unlock()
	ev := Event{At: now, Kind: KindResponse, Process: FunctionProcess, RequestID: c.id, Text: string(StatusSuccess), Count: len(body)}
	if ferr != nil {
		ev.Text = string(StatusError)
	}
	e.rec.add(ev)
}

// functionError reads the body of an error report; the header wins over the body's type.
func functionError(header string, body []byte) *FunctionError {
	var detail apiError
	if json.Unmarshal(body, &detail) != nil {
		detail.Message = string(body)
	}
	switch {
	case header != "":
		detail.Type = header
	case detail.Type == "":
		detail.Type = "Runtime.Unknown"
	}
	return &FunctionError{detail.Type, detail.Message}
}

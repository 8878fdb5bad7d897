package lambdasim

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// Largest body of a registration, an error report or a subscription (the limit of Managed Instances).
const maxAPIBody = 1 << 20

// routes are the three APIs, which share one address.
func (e *Env) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", e.runtimeNext)
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/response", e.runtimeResponse)
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/error", e.runtimeError)
	mux.HandleFunc("POST /2018-06-01/runtime/init/error", e.runtimeInitError)
	mux.HandleFunc("POST /2020-01-01/extension/register", e.extensionRegister)
	mux.HandleFunc("GET /2020-01-01/extension/event/next", e.extensionNext)
	mux.HandleFunc("POST /2020-01-01/extension/init/error", e.extensionInitError)
	mux.HandleFunc("POST /2020-01-01/extension/exit/error", e.extensionExitError)
	mux.HandleFunc("PUT /2022-07-01/telemetry", e.telemetrySubscribe)
	return mux
}

// apiError is the body of every refusal.
type apiError struct {
	Message string `json:"errorMessage"`
	Type    string `json:"errorType"`
}

// refuse answers a call with an error and records it: a refused call is what one looks for first when an
// extension does not work.
func (e *Env) refuse(w http.ResponseWriter, r *http.Request, status int, errorType, message string) {
	e.rec.add(Event{Kind: KindRefused, Text: r.Method + " " + r.URL.Path + ": " + errorType})
	reply(w, status, apiError{message, errorType})
}

// reply answers with v as JSON.
func reply(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic("BUG: lambdasim: marshal answer: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body)
}

var acceptedBody = map[string]string{"status": "OK"}

// live is the incarnation that calls belong to; without one it answers the "container error" that tells a
// process to go away.
func (e *Env) live(w http.ResponseWriter, r *http.Request) *sandbox {
	e.mu.Lock()
	box := e.box
	e.mu.Unlock()
	if box == nil {
		e.refuse(w, r, http.StatusInternalServerError, "InternalServerError", "Internal Server Error")
	}
	return box
}

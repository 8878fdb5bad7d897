package lambdasim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"
)

const (
	schema2022July = "2022-07-01" // a log line is always a string
	schema2022Dec  = "2022-12-13" // a JSON log line is an object
	schema2025     = "2025-01-29" // the only one on Managed Instances
)

// subscribeRequest is the body of PUT /telemetry.
type subscribeRequest struct {
	SchemaVersion string   `json:"schemaVersion"`
	Types         []string `json:"types"`
	Buffering     struct {
		MaxItems  *int `json:"maxItems"`
		MaxBytes  *int `json:"maxBytes"`
		TimeoutMs *int `json:"timeoutMs"`
	} `json:"buffering"`
	Destination struct {
		Protocol string `json:"protocol"`
		URI      string `json:"URI"`
	} `json:"destination"`
}

// telemetrySubscribe is PUT /2022-07-01/telemetry.
func (e *Env) telemetrySubscribe(w http.ResponseWriter, r *http.Request) {
	box, a := e.caller(w, r)
	if a == nil {
		return
	}
	note := func(text string) { e.rec.add(Event{Kind: KindSubscribe, Process: a.name, Text: text}) }
	e.mu.Lock()
	closed := box.teleClosed
	e.mu.Unlock()
	switch {
	case e.cfg.Telemetry == TelemetryNotSupported:
		note("Telemetry.NotSupported")
		reply(w, http.StatusAccepted, apiError{"Telemetry API is not supported", "Telemetry.NotSupported"})
		return
	case closed || e.cfg.Telemetry == TelemetryRefused:
		note("Telemetry.SubscriptionClosed")
		e.refuse(w, r, http.StatusForbidden, "Telemetry.SubscriptionClosed", "Telemetry API subscription is closed")
		return
	}
	sub, err := e.readSubscription(w, r)
	if err != nil {
		note("ValidationError")
		e.refuse(w, r, http.StatusBadRequest, "ValidationError", err.Error())
		return
	}
	sub.name = a.name
	state := "Subscribed"
	if e.cfg.Telemetry != TelemetrySilent && !e.hub.subscribe(sub) {
		state = "Already subscribed"
	}
	note(state)
	e.hub.emit(platformEvent("platform.telemetrySubscription", time.Now(), telemetrySubscriptionRecord{a.name, state, sub.types}))
	reply(w, http.StatusOK, "OK")
}

// readSubscription checks a subscription against the limits of the Telemetry API reference.
func (e *Env) readSubscription(w http.ResponseWriter, r *http.Request) (*subscription, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAPIBody))
	if err != nil {
		return nil, fmt.Errorf("read request body: %w", err)
	}
	var req subscribeRequest
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, fmt.Errorf("parse JSON: %w", err)
	}
	schemas := []string{schema2022July, schema2022Dec, schema2025}
	if e.cfg.ManagedInstances {
		schemas = schemas[2:]
	}
	if !slices.Contains(schemas, req.SchemaVersion) {
		return nil, fmt.Errorf("schemaVersion: %q is not one of %v", req.SchemaVersion, schemas)
	}
	if len(req.Types) == 0 {
		return nil, errors.New("types: at least one is needed")
	}
	for _, t := range req.Types {
		if t != typePlatform && t != typeFunction && t != typeExtension {
			return nil, fmt.Errorf("types: %q is not one of platform, function, extension", t)
		}
	}
	if req.Destination.Protocol != "HTTP" {
		return nil, fmt.Errorf("destination.protocol: %q is not emulated, only HTTP", req.Destination.Protocol)
	}
	u, err := url.Parse(req.Destination.URI)
	if err != nil {
		return nil, fmt.Errorf("destination.URI: %w", err)
	}
	if h := u.Hostname(); u.Scheme != "http" || h != "sandbox.localdomain" && h != "sandbox" {
		return nil, fmt.Errorf("destination.URI: %q: the host must be sandbox.localdomain", req.Destination.URI)
	}
	u.Host = "127.0.0.1:" + u.Port()
	sub := &subscription{types: req.Types, schema: req.SchemaVersion, uri: u.String(), json: e.cfg.Env["AWS_LAMBDA_LOG_FORMAT"] == "JSON"}
	var timeoutMs int
	err = errors.Join(
		limited(&sub.maxItems, "maxItems", req.Buffering.MaxItems, 1000, 10000, 10000),
		limited(&sub.maxBytes, "maxBytes", req.Buffering.MaxBytes, 262144, 1048576, 262144),
		limited(&timeoutMs, "timeoutMs", req.Buffering.TimeoutMs, 25, 30000, 1000))
	sub.timeout = time.Duration(timeoutMs) * time.Millisecond
	return sub, err
}

// limited sets dst to v, or to def where v is nil.
func limited(dst *int, name string, v *int, least, most, def int) error {
	*dst = def
	if v == nil {
		return nil
	}
	*dst = *v
	if *v < least || *v > most {
		return fmt.Errorf("buffering.%s: %d is not from %d to %d", name, *v, least, most)
	}
	return nil
}

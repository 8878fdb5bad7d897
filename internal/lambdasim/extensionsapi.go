package lambdasim

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	headerExtensionName    = "Lambda-Extension-Name"
	headerExtensionID      = "Lambda-Extension-Identifier"
	headerExtensionFeature = "Lambda-Extension-Accept-Feature"
	headerExtensionError   = "Lambda-Extension-Function-Error-Type"
	headerExtensionEventID = "Lambda-Extension-Event-Identifier"
)

var uuidForm = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// extensionRegister is POST /extension/register.
func (e *Env) extensionRegister(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	name := r.Header.Get(headerExtensionName)
	if name == "" {
		e.refuse(w, r, http.StatusForbidden, "Extension.InvalidExtensionName", "Empty extension name")
		return
	}
	var req struct {
		Events            []string `json:"events"`
		ConfigurationKeys []string `json:"configurationKeys"`
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAPIBody))
	if err == nil {
		err = json.Unmarshal(body, &req)
	}
	if err == nil && len(req.ConfigurationKeys) != 0 {
		err = fmt.Errorf("configurationKeys are deprecated; use environment variables instead")
	}
	if err != nil {
		e.refuse(w, r, http.StatusForbidden, "InvalidRequestFormat", err.Error())
		return
	}
	box := e.live(w, r)
	if box == nil {
		return
	}
	e.mu.Lock()
	p := box.process(name)
	e.mu.Unlock()
	p.awaitLaunch()
	a, refusal := e.register(box, name, req.Events, now)
	if refusal != nil {
		e.refuse(w, r, http.StatusForbidden, refusal.Type, refusal.Message)
		return
	}
	e.rec.add(Event{At: now, Kind: KindRegister, Process: name, Text: strings.Join(req.Events, ",")})
	answer := map[string]string{
		"functionName": e.cfg.Name, "functionVersion": functionVersion, "handler": e.cfg.Handler,
	}
	for feature := range strings.SplitSeq(r.Header.Get(headerExtensionFeature), ",") {
		if strings.TrimSpace(feature) == "accountId" {
			answer["accountId"] = accountID
		}
	}
	w.Header().Set(headerExtensionID, a.id)
	reply(w, http.StatusOK, answer)
}

// register finds the external extension of that name, or makes an internal one.
func (e *Env) register(box *sandbox, name string, events []string, now time.Time) (*agent, *apiError) {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := slices.IndexFunc(box.agents, func(a *agent) bool { return a.name == name })
	internal := i < 0 || !box.agents[i].external
	for _, ev := range events {
		if !e.mayTake(ev, internal) {
			return nil, &apiError{ev + ": ErrorInvalidEventType", "Extension.InvalidEventType"}
		}
	}
	if i >= 0 {
		if a := box.agents[i]; a.external && a.state == stateStarted {
			a.state, a.events = stateRegistered, events
			a.proc.registered, a.proc.cpuRegistered = now, a.proc.cpuTime()
			e.notifyLocked()
			return a, nil
		}
		return nil, transitionError(box.agents[i], stateRegistered)
	}
	switch {
	case box.regClosed:
		return nil, &apiError{"Extension registration closed already", "Extension.RegistrationClosed"}
	case len(box.agents) >= maxExtensions:
		return nil, &apiError{fmt.Sprintf("Extension limit (%d) reached", maxExtensions), "Extension.TooManyExtensions"}
	}
	a := &agent{name: name, id: newUUID(), state: stateRegistered, events: events, inbox: make(chan *agentEvent, 2)}
	box.agents = append(box.agents, a)
	e.notifyLocked()
	return a, nil
}

// mayTake says whether an extension may subscribe to the event: internal ones not to SHUTDOWN, and on
// Managed Instances nobody to INVOKE.
func (e *Env) mayTake(event string, internal bool) bool {
	switch event {
	case eventInvoke:
		return !e.cfg.ManagedInstances
	case eventShutdown:
		return !internal
	}
	return false
}

func transitionError(a *agent, to agentState) *apiError {
	return &apiError{
		fmt.Sprintf("State transition from %s to %s failed for extension %s. Error: State transition is not allowed", a.state, to, a.name),
		"Extension.InvalidExtensionState",
	}
}

// caller is the extension that a request names, or nil after a refusal.
func (e *Env) caller(w http.ResponseWriter, r *http.Request) (*sandbox, *agent) {
	id := r.Header.Get(headerExtensionID)
	box := e.live(w, r)
	if box == nil {
		return nil, nil
	}
	e.mu.Lock()
	a := box.agentByID(id)
	if a != nil && a.state == stateStarted {
		a = nil
	}
	e.mu.Unlock()
	switch {
	case a != nil:
		return box, a
	case id == "":
		e.refuse(w, r, http.StatusForbidden, "Extension.MissingExtensionIdentifier", "Missing "+headerExtensionID+" header")
	case !uuidForm.MatchString(id):
		e.refuse(w, r, http.StatusForbidden, "Extension.InvalidExtensionIdentifier", "Invalid "+headerExtensionID)
	default:
		e.refuse(w, r, http.StatusForbidden, "Extension.UnknownExtensionIdentifier", "Unknown extension "+id)
	}
	return nil, nil
}

// extensionNext is GET /extension/event/next. As on the platform, a caller that hangs up stays in the Ready
// state, and the event that its answer would have carried is lost.
func (e *Env) extensionNext(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	box, a := e.caller(w, r)
	if a == nil {
		return
	}
	e.mu.Lock()
	if a.state != stateRegistered && a.state != stateRunning {
		refusal := transitionError(a, stateReady)
		e.mu.Unlock()
		e.refuse(w, r, http.StatusForbidden, refusal.Type, refusal.Message)
		return
	}
	a.state, a.nextAt = stateReady, now
	if a.external && a.proc.firstNext.IsZero() {
		a.proc.firstNext, a.proc.cpuFirstNext = now, a.proc.cpuTime()
	}
	e.notifyLocked()
	e.mu.Unlock()
	e.rec.add(Event{At: now, Kind: KindExtensionNext, Process: a.name})

	select {
	case ev := <-a.inbox:
		e.deliver(w, a, ev)
	case <-box.over:
		e.refuse(w, r, http.StatusInternalServerError, "InternalServerError", "Internal Server Error")
	}
}

// deliver answers a next with its event.
func (e *Env) deliver(w http.ResponseWriter, a *agent, ev *agentEvent) {
	ev.record.At = time.Now()
	e.rec.add(ev.record)
	e.mu.Lock()
	a.state = stateRunning
	if ev.record.Kind == KindShutdown {
		a.proc.asked = ev.record.At
	}
	e.mu.Unlock()
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(ev.body)))
	if ev.record.Kind == KindInvoke {
		h.Set(headerExtensionEventID, newUUID())
	}
	w.Write(ev.body)
	http.NewResponseController(w).Flush()
	e.mu.Lock()
	ev.sent = true
	e.notifyLocked()
	e.mu.Unlock()
}

// extensionInitError is POST /extension/init/error: legal before the first next.
func (e *Env) extensionInitError(w http.ResponseWriter, r *http.Request) {
	e.extensionError(w, r, stateInitError, "Extension.InitError", stateRegistered)
}

// extensionExitError is POST /extension/exit/error.
func (e *Env) extensionExitError(w http.ResponseWriter, r *http.Request) {
	e.extensionError(w, r, stateExitError, "Extension.ExitError", stateRegistered, stateReady, stateRunning)
}

// extensionError ends the incarnation with what the extension reports. The same report again changes nothing.
func (e *Env) extensionError(w http.ResponseWriter, r *http.Request, to agentState, errorType string, from ...agentState) {
	box, a := e.caller(w, r)
	if a == nil {
		return
	}
	reported := r.Header.Get(headerExtensionError)
	if reported == "" {
		e.refuse(w, r, http.StatusForbidden, "Extension.MissingHeader", headerExtensionError+" not found")
		return
	}
	message := reported
	var detail apiError
	if json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAPIBody)).Decode(&detail) == nil && detail.Message != "" {
		message += ": " + detail.Message
	}
	e.mu.Lock()
	var refusal *apiError
	if a.state != to {
		if slices.Contains(from, a.state) {
			a.state = to
			e.failLocked(box, a.name, errorType, message)
		} else {
			refusal = transitionError(a, to)
		}
	}
	e.mu.Unlock()
	if refusal != nil {
		e.refuse(w, r, http.StatusForbidden, refusal.Type, refusal.Message)
		return
	}
	reply(w, http.StatusAccepted, acceptedBody)
}

package lambdasim

import (
	"math"
	"time"
)

// The records of the Telemetry API's platform events (Telemetry API schema reference).
type (
	initStartRecord struct {
		InitializationType string `json:"initializationType"`
		Phase              string `json:"phase"`
		RuntimeVersion     string `json:"runtimeVersion"`
		RuntimeVersionArn  string `json:"runtimeVersionArn"`
		FunctionName       string `json:"functionName"`
		FunctionVersion    string `json:"functionVersion"`
		InstanceID         string `json:"instanceId"`
		InstanceMaxMemory  int    `json:"instanceMaxMemory"` // MB; bytes on Managed Instances
	}
	initDoneRecord struct { // initRuntimeDone, and initReport with metrics
		InitializationType string   `json:"initializationType"`
		Phase              string   `json:"phase"`
		Status             Status   `json:"status"`
		ErrorType          string   `json:"errorType,omitempty"`
		Metrics            *metrics `json:"metrics,omitempty"`
	}
	startRecord struct {
		RequestID string   `json:"requestId"`
		Version   string   `json:"version"`
		Tracing   *tracing `json:"tracing,omitempty"`
	}
	doneRecord struct { // runtimeDone and report
		RequestID string   `json:"requestId"`
		Status    Status   `json:"status"`
		ErrorType string   `json:"errorType,omitempty"`
		Metrics   *metrics `json:"metrics,omitempty"`
		Spans     []span   `json:"spans,omitempty"`
		Tracing   *tracing `json:"tracing,omitempty"`
	}
	extensionRecord struct {
		Name      string   `json:"name"`
		State     string   `json:"state"`
		Events    []string `json:"events"`
		ErrorType string   `json:"errorType,omitempty"`
	}
	telemetrySubscriptionRecord struct {
		Name  string   `json:"name"`
		State string   `json:"state"`
		Types []string `json:"types"`
	}
	metrics struct {
		Duration       float64  `json:"durationMs"`
		ProducedBytes  *int     `json:"producedBytes,omitempty"`
		BilledDuration *float64 `json:"billedDurationMs,omitempty"`
		MemorySize     int      `json:"memorySizeMB,omitempty"`
		MaxMemoryUsed  int64    `json:"maxMemoryUsedMB,omitempty"`
		InitDuration   *float64 `json:"initDurationMs,omitempty"`
	}
	span struct {
		Name     string  `json:"name"`
		Start    string  `json:"start"`
		Duration float64 `json:"durationMs"`
	}
	tracing struct {
		Type  string `json:"type"`
		Value string `json:"value"`
	}
)

func platformEvent(typ string, at time.Time, record any) telemetryEvent {
	return telemetryEvent{at: at, category: typePlatform, typ: typ, record: record}
}

func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// millis is d in milliseconds with three decimals, as the platform writes it.
func millis(d time.Duration) float64 { return float64(d.Round(time.Microsecond)) / 1e6 }

func newSpan(name string, from, to time.Time) span {
	return span{name, timestamp(from), millis(to.Sub(from))}
}

func (c *call) tracing() *tracing { return &tracing{"X-Amzn-Trace-Id", c.trace} }

func (e *Env) initStartEvent(phase string, at time.Time) telemetryEvent {
	memory := e.cfg.MemoryMB
	if e.cfg.ManagedInstances {
		memory <<= 20
	}
	return platformEvent("platform.initStart", at, initStartRecord{
		InitializationType: e.id.initType, Phase: phase,
		FunctionName: e.cfg.Name, FunctionVersion: functionVersion,
		InstanceID: e.id.instance, InstanceMaxMemory: memory,
	})
}

// initDoneEvent is initRuntimeDone, or initReport where a duration is given.
func (e *Env) initDoneEvent(typ string, at time.Time, rep InitReport, duration *time.Duration) telemetryEvent {
	rec := initDoneRecord{InitializationType: e.id.initType, Phase: rep.Phase, Status: rep.Status}
	if rep.Error != nil {
		rec.ErrorType = rep.Error.Type
	}
	if duration != nil {
		rec.Metrics = &metrics{Duration: millis(*duration)}
	}
	return platformEvent(typ, at, rec)
}

// runtimeDoneEvent closes the runtime's part of an invocation. A handled error is a success here: that is
// what the platform says on demand. The caller holds mu.
func (e *Env) runtimeDoneEvent(c *call, at time.Time, status Status, errorType string) telemetryEvent {
	produced := len(c.response)
	rec := doneRecord{
		RequestID: c.id, Status: status, ErrorType: errorType, Tracing: c.tracing(),
		Metrics: &metrics{Duration: millis(at.Sub(c.start)), ProducedBytes: &produced},
	}
	if c.responded {
		rec.Spans = []span{
			newSpan("responseLatency", c.start, c.firstByte),
			newSpan("responseDuration", c.firstByte, c.responseAt),
			newSpan("runtimeOverhead", c.responseAt, at),
		}
	}
	return platformEvent("platform.runtimeDone", at, rec)
}

// reportEvent is the platform.report of an invocation on demand.
func (e *Env) reportEvent(inv Invocation, c *call, coldInit *time.Duration, usedBytes int64) telemetryEvent {
	billed := inv.Billed()
	m := &metrics{
		Duration: millis(inv.Billed()), MemorySize: e.cfg.MemoryMB, MaxMemoryUsed: (usedBytes + 1<<20 - 1) >> 20,
	}
	if coldInit != nil {
		d := millis(*coldInit)
		m.InitDuration = &d
		billed += *coldInit // the init phase is billed
	}
	ms := math.Ceil(millis(billed))
	m.BilledDuration = &ms
	rec := doneRecord{RequestID: inv.RequestID, Status: reportStatus(inv), Metrics: m, Tracing: c.tracing()}
	if inv.Status != StatusSuccess && inv.Reset != nil {
		rec.ErrorType = inv.Error.Type
	}
	if !inv.RuntimeDone.IsZero() && !inv.ExtensionsDone.IsZero() {
		rec.Spans = []span{newSpan("extensionOverhead", inv.RuntimeDone, inv.End)}
	}
	return platformEvent("platform.report", inv.End, rec)
}

// reportStatus is the platform's view: an error that the function handled is a success.
func reportStatus(inv Invocation) Status {
	if inv.Status == StatusError && inv.Reset == nil {
		return StatusSuccess
	}
	return inv.Status
}

// managedReportEvent is the platform.report on Managed Instances, where the client's error shows.
func (e *Env) managedReportEvent(inv Invocation, c *call) telemetryEvent {
	rec := doneRecord{
		RequestID: inv.RequestID, Status: inv.Status, Tracing: c.tracing(),
		Metrics: &metrics{Duration: millis(inv.Billed())},
	}
	if inv.Error != nil {
		rec.ErrorType = inv.Error.Type
	}
	if c.responded {
		rec.Spans = []span{
			newSpan("responseLatency", c.start, c.firstByte),
			newSpan("responseDuration", c.firstByte, c.responseAt),
		}
	}
	return platformEvent("platform.report", inv.End, rec)
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/e2e/toolchain"
	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
)

// sdkCost is what one of the examples was seen to take, in milliseconds.
type sdkCost struct {
	without, with, large invocations // with few spans, and with many
}

// invocations are those of one function.
type invocations struct {
	handler sample // from START to the response
	flush   sample // as the function measured it
	cpu     sample // of the function's process, from freeze to freeze
}

// measureSDKs compares the real functions with themselves, their SDK disabled.
func measureSDKs(ctx context.Context, l *lab) ([]table, error) {
	const few, many, goal = 20, 200, 6.0
	rounds, times := l.n(2, 1), l.n(40, 2)
	if err := l.build(ctx, filepath.Join(l.dir, "go"), "./examples/go", "linux", goarch()); err != nil {
		return nil, err
	}
	t := table{
		title: "What telemetry costs the handler",
		method: fmt.Sprintf("The functions of examples/, each on Lambda's official runtime, full CPU, 5 ms frozen between invocations; handlers of %d spans and log records and 2 data points, %d in each of %d environments. "+
			"\"Without\" is the same function with `OTEL_SDK_DISABLED=true`; \"added\" is everything, making spans included. Milliseconds until the response, medians; of the flush p50 / p99; CPU is the function's own.",
			few, times, rounds),
		columns: []string{"SDK", "goal, added", "without", "with", "added", "flush", "CPU added", fmt.Sprintf("flush of %d spans", many), "verdict"},
	}
	for _, sdk := range toolchain.SDKs() {
		if l.quick && sdk.Protocol != "http/protobuf" {
			continue
		}
		l.say("  %s", sdk)
		cost, err := l.sdkCost(ctx, sdk, rounds, times, few, many)
		if errors.Is(err, toolchain.ErrMissing) {
			l.say("SKIPPED: %v", err)
			t.row(sdk.String(), "≤ 6 ms", "–", "–", "–", "–", "–", "–", "not measured: "+err.Error())
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", sdk, err)
		}
		without, with := cost.without.handler.median(), cost.with.handler.median()
		t.row(sdk.String(), "≤ 6 ms", number(without), number(with), number(with-without), cost.with.flush.spread(),
			number(cost.with.cpu.median()-cost.without.cpu.median()), cost.large.flush.spread(), verdict(with-without, goal))
	}
	return []table{t}, nil
}

func (l *lab) sdkCost(ctx context.Context, sdk toolchain.SDK, rounds, times, few, many int) (c sdkCost, err error) {
	tool := ""
	if sdk.Language != "go" {
		if tool, err = toolchain.Dir(sdk.Language); err != nil {
			return c, err
		}
	}
	for range rounds {
		for _, of := range []struct {
			disabled bool
			spans    int
			to       *invocations
		}{
			{true, few, &c.without},
			{false, few, &c.with},
			{false, many, &c.large},
		} {
			s := setup{extension: ours, memoryMB: 1769, vars: map[string]string{
				"OTEL_EXPORTER_OTLP_PROTOCOL": sdk.Protocol,
				"OTEL_SDK_DISABLED":           strconv.FormatBool(of.disabled),
			}}
			s.change = func(cfg *lambdasim.Config) {
				if sdk.Language == "go" {
					cfg.Function = []string{filepath.Join(l.dir, "go")}
					cfg.Env["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://" + cfg.Env["OTLP_RELAY_HTTP_ADDR"] // takes gRPC, too
					return
				}
				sdk.Set(cfg, tool)
				cfg.Wrapper = filepath.Join(l.root, "layer", "otlp-relay-exec")
			}
			if err := l.sdkOnce(ctx, s, times, of.spans, of.to); err != nil {
				return c, err
			}
		}
	}
	return c, nil
}

// sdkOnce runs one environment and adds what its invocations took.
func (l *lab) sdkOnce(ctx context.Context, s setup, times, spans int, to *invocations) (err error) {
	if s.backend, err = backend(0); err != nil {
		return err
	}
	defer s.backend.Close()
	env, err := l.start(ctx, s)
	if err != nil {
		return err
	}
	defer env.Close()
	made := 0
	warmUp := times / 2 // connections are made, compilers compile
	for i := range warmUp + times {
		inv, err := env.Invoke(ctx, lambdasim.Request{Payload: fmt.Appendf(nil, `{"id":"A-1","spans":%d}`, spans-1)})
		if err != nil {
			return err
		}
		if inv.Status != lambdasim.StatusSuccess {
			return fmt.Errorf("the function was harmed: %v %w", inv.Status, inv.Error)
		}
		var receipt struct {
			Spans   int
			FlushMS float64 `json:"flush_ms"`
		}
		if err := json.Unmarshal(inv.Response, &receipt); err != nil {
			return err
		}
		made += receipt.Spans
		if i >= warmUp {
			to.handler.addTime(inv.ResponseAt.Sub(inv.Start))
			to.flush.add(receipt.FlushMS)
			to.cpu.addTime(inv.CPU[lambdasim.FunctionProcess])
		}
		pause(ctx, 5*time.Millisecond)
	}
	if _, err := env.Shutdown(ctx, ""); err != nil || s.vars["OTEL_SDK_DISABLED"] == "true" {
		return err
	}
	return arrived(s.backend, made)
}

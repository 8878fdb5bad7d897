// Command function is the Lambda function of the benchmark: a handler of a given length that ends with a
// prepared OTLP request over a kept connection, so that no SDK's own CPU time blurs what an extension costs.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// event asks for one invocation: so long a handler, then Posts requests of Spans spans.
type event struct {
	WorkMS int `json:"work_ms"`
	Spans  int `json:"spans"`
	Posts  int `json:"posts"`
}

func main() {
	f := function{
		api:    "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/",
		traces: "http://" + os.Getenv("BENCH_OTLP") + "/v1/traces",
		bodies: os.Getenv("BENCH_BODIES"),
		read:   map[int][]byte{},
	}
	for {
		if err := f.invoke(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

type function struct {
	api, traces string
	bodies      string // directory of prepared requests, named by their number of spans
	read        map[int][]byte
}

// invoke takes one invocation from the Runtime API and answers it.
func (f *function) invoke() error {
	resp, err := http.Get(f.api + "next")
	if err != nil {
		return fmt.Errorf("wait for an invocation: %w", err)
	}
	var ev event
	if err := json.NewDecoder(resp.Body).Decode(&ev); err != nil {
		return fmt.Errorf("decode the event: %w", err)
	}
	if err := finish(resp, nil); err != nil {
		return err
	}
	time.Sleep(time.Duration(ev.WorkMS) * time.Millisecond)
	for range ev.Posts {
		if err := f.post(ev.Spans); err != nil {
			return fmt.Errorf("send telemetry: %w", err)
		}
	}
	id := resp.Header.Get("Lambda-Runtime-Aws-Request-Id")
	resp, err = http.Post(f.api+id+"/response", "application/json", bytes.NewReader([]byte("{}")))
	return finish(resp, err)
}

// post sends the prepared request of so many spans.
func (f *function) post(spans int) error {
	body, ok := f.read[spans]
	if !ok {
		var err error
		if body, err = os.ReadFile(filepath.Join(f.bodies, strconv.Itoa(spans))); err != nil {
			return err
		}
		f.read[spans] = body
	}
	return finish(http.Post(f.traces, "application/x-protobuf", bytes.NewReader(body)))
}

// finish reads an answer to its end, so that its connection is kept.
func finish(resp *http.Response, err error) error {
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s", resp.Request.Method, resp.Request.URL.Path, resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

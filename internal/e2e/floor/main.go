// Command floor is what the benchmark measures the extension against: the least a Go extension can be with
// net/http. It registers, calls event/next, and throws away what it receives.
package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
)

func main() {
	l, err := net.Listen("tcp", os.Getenv("OTLP_RELAY_HTTP_ADDR"))
	if err != nil {
		os.Exit(1)
	}
	go http.Serve(l, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))

	api := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2020-01-01/extension/"
	req, _ := http.NewRequest("POST", api+"register", bytes.NewReader([]byte(`{"events":["INVOKE","SHUTDOWN"]}`)))
	req.Header.Set("Lambda-Extension-Name", filepath.Base(os.Args[0]))
	id := call(req, nil).Get("Lambda-Extension-Identifier")
	for {
		var event struct {
			EventType string `json:"eventType"`
		}
		req, _ := http.NewRequest("GET", api+"event/next", nil)
		req.Header.Set("Lambda-Extension-Identifier", id)
		call(req, &event)
		if event.EventType == "SHUTDOWN" {
			return
		}
	}
}

// call exits on any failure: there is nothing to measure then.
func call(req *http.Request, into any) http.Header {
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		os.Exit(1)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || into != nil && json.Unmarshal(body, into) != nil {
		os.Exit(1)
	}
	return resp.Header
}

// Command probe is an extension or a function that does what a script says, so that a test can have every
// kind of good and bad behaviour. It prints what each step came to.
//
// As an extension it runs SCRIPT_<name>; as a function SCRIPT_function, then a loop whose invocations obey the
// payload {"do": "step arguments; ..."}. Steps are separated by semicolons.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

var (
	base   = "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API")
	name   = filepath.Base(os.Args[0])
	id     string // of the extension
	client = &http.Client{}

	arrived = make(chan string, 1000) // types of telemetry events
)

func main() {
	_, function := os.LookupEnv("_HANDLER")
	if function {
		name = "function"
	}
	run(os.Getenv("SCRIPT_" + name))
	if function {
		functionLoop()
	}
}

func run(script string) {
	for step := range strings.SplitSeq(script, ";") {
		if f := strings.Fields(step); len(f) > 0 {
			do(f[0], f[1:])
		}
	}
}

func do(verb string, args []string) {
	arg := strings.Join(args, " ")
	switch verb {
	case "register":
		register(name, arg)
	case "register-as":
		register(args[0], strings.Join(args[1:], ""))
	case "next":
		fmt.Println("next:", next())
	case "async-next":
		go nextAs(id)
	case "two-nexts":
		results := make(chan string, 2)
		for range 2 {
			go func() { results <- next() }()
		}
		fmt.Println("two-nexts:", <-results)
		check(os.WriteFile(arg, nil, 0o600)) // one was refused before any event came
		fmt.Println("two-nexts:", <-results)
	case "await-file":
		awaitFile(arg)
	case "loop":
		extensionLoop(arg)
	case "init-error", "exit-error":
		path := strings.Replace(verb, "-", "/", 1)
		fmt.Println(verb+":", call("POST", "/2020-01-01/extension/"+path, `{"errorMessage":"said so"}`, "Lambda-Extension-Function-Error-Type", arg))
	case "runtime-init-error":
		fmt.Println(verb+":", call("POST", "/2018-06-01/runtime/init/error", `{"errorMessage":"said so","errorType":"`+arg+`"}`))
	case "subscribe":
		fmt.Println("subscribe:", call("PUT", "/2022-07-01/telemetry", arg))
	case "post": // JSON to the relay's destination
		resp, err := client.Post(os.Getenv("OTLP_RELAY_ENDPOINT")+args[0], "application/json", strings.NewReader(strings.Join(args[1:], " ")))
		check(err)
		resp.Body.Close()
		fmt.Println("post:", resp.StatusCode)
	case "listen":
		listen(arg)
	case "await":
		for want := arg; <-arrived != want; {
		}
	case "listen-late":
		go func() {
			awaitFile(args[1])
			listen(args[0])
		}()
	case "once": // the rest of this step only where the file does not exist yet
		if f, err := os.OpenFile(args[0], os.O_CREATE|os.O_EXCL, 0o600); err == nil {
			f.Close()
			do(args[1], args[2:])
		}
	case "exit":
		code, _ := strconv.Atoi(arg)
		os.Exit(code)
	case "hold":
		d, _ := time.ParseDuration(arg)
		time.Sleep(d)
	case "burn": // CPU
		d, _ := time.ParseDuration(arg)
		burn(d)
	case "forever":
		signal.Ignore(syscall.SIGTERM)
		time.Sleep(24 * time.Hour)
	case "ignore-term":
		signal.Ignore(syscall.SIGTERM)
	case "on-term":
		onTerm(arg)
	case "environ":
		env := os.Environ()
		slices.Sort(env)
		fmt.Println("environ:", strings.Join(env, "|"))
	case "print":
		fmt.Println(arg)
	case "count":
		count(arg)
	default:
		fmt.Println("unknown step", verb)
		os.Exit(97)
	}
}

// call answers the status with the error type, if any.
func call(method, path, body string, header ...string) string {
	resp, data := send(method, path, body, header...)
	var e struct{ ErrorType string }
	json.Unmarshal(data, &e)
	return strings.TrimSpace(resp.Status[:3] + " " + e.ErrorType)
}

func send(method, path, body string, header ...string) (*http.Response, []byte) {
	req, err := http.NewRequest(method, base+path, strings.NewReader(body))
	check(err)
	if id != "" {
		req.Header.Set("Lambda-Extension-Identifier", id)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(req)
	check(err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	check(err)
	return resp, data
}

func register(as, events string) {
	list := []string{}
	if events != "" {
		list = strings.Split(events, ",")
	}
	body, _ := json.Marshal(map[string]any{"events": list})
	resp, data := send("POST", "/2020-01-01/extension/register", string(body), "Lambda-Extension-Name", as, "Lambda-Extension-Accept-Feature", "accountId")
	if v := resp.Header.Get("Lambda-Extension-Identifier"); v != "" {
		id = v
	}
	fmt.Println("register:", resp.StatusCode, string(data))
}

func next() string { return nextAs(id) }

// nextAs answers the event's type, or status and error type.
func nextAs(id string) string {
	resp, data := send("GET", "/2020-01-01/extension/event/next", "", "Lambda-Extension-Identifier", id)
	var ev struct{ EventType, ShutdownReason, ErrorType string }
	json.Unmarshal(data, &ev)
	if resp.StatusCode != http.StatusOK {
		return resp.Status[:3] + " " + ev.ErrorType
	}
	fmt.Println("event:", string(data), "event-id:", resp.Header.Get("Lambda-Extension-Event-Identifier") != "")
	return strings.TrimSpace(ev.EventType + " " + ev.ShutdownReason)
}

// extensionLoop runs the steps after each INVOKE, and at SHUTDOWN those behind "finally" before it exits.
func extensionLoop(steps string) {
	steps, last, _ := strings.Cut(strings.ReplaceAll(steps, " then ", ";"), "finally")
	for {
		switch ev := next(); {
		case ev == "INVOKE":
			run(steps)
		case strings.HasPrefix(ev, "SHUTDOWN"):
			run(last)
			os.Exit(0)
		default:
			fmt.Println("next:", ev)
			os.Exit(96)
		}
	}
}

// functionLoop is a runtime that answers each payload with itself, after the steps it asks for.
func functionLoop() {
	for {
		resp, payload := send("GET", "/2018-06-01/runtime/invocation/next", "")
		if resp.StatusCode != http.StatusOK {
			os.Exit(95)
		}
		path := "/2018-06-01/runtime/invocation/" + resp.Header.Get("Lambda-Runtime-Aws-Request-Id")
		var req struct{ Do, Answer, After string }
		json.Unmarshal(payload, &req)
		run(req.Do)
		switch req.Answer {
		case "":
			call("POST", path+"/response", string(payload))
		case "error":
			fmt.Println("answer:", call("POST", path+"/error", `{"errorMessage":"as asked","errorType":"Function.Asked"}`))
		case "twice":
			call("POST", path+"/response", "first")
			fmt.Println("answer:", call("POST", path+"/response", "second"))
		case "wrong-id":
			fmt.Println("answer:", call("POST", "/2018-06-01/runtime/invocation/nobody/response", "x"))
			call("POST", path+"/response", "right")
		case "next-first":
			again, _ := send("GET", "/2018-06-01/runtime/invocation/next", "")
			same := again.Header.Get("Lambda-Runtime-Aws-Request-Id") == resp.Header.Get("Lambda-Runtime-Aws-Request-Id")
			fmt.Println("answer: the same invocation again:", same)
			call("POST", path+"/response", "late")
		case "huge":
			fmt.Println("answer:", call("POST", path+"/response", strings.Repeat("x", 7<<20)))
		}
		run(req.After)
	}
}

// listen is a telemetry listener that prints each event; its port is free again at the exit.
func listen(addr string) {
	ln, err := net.Listen("tcp", addr)
	check(err)
	go http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var events []json.RawMessage
		if err := json.NewDecoder(r.Body).Decode(&events); err != nil {
			fmt.Println("telemetry: bad body:", err)
		}
		for _, ev := range events {
			fmt.Println("telemetry:", string(ev))
			var typed struct{ Type string }
			json.Unmarshal(ev, &typed)
			arrived <- typed.Type
		}
	}))
}

func awaitFile(path string) {
	for _, err := os.Stat(path); err != nil; _, err = os.Stat(path) {
		time.Sleep(time.Millisecond)
	}
}

func onTerm(steps string) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	go func() {
		<-c
		fmt.Println("SIGTERM")
		run(strings.ReplaceAll(steps, " then ", ";"))
	}()
}

// count writes a number that never rests to the file.
func count(file string) {
	f, err := os.Create(file)
	check(err)
	go func() {
		for n := 1; ; n++ {
			f.WriteAt([]byte(fmt.Sprintf("%012d", n)), 0)
		}
	}()
}

var sink atomic.Int64

// burn uses CPU time of its own, whatever the wall clock says.
func burn(d time.Duration) {
	used := func() time.Duration {
		var ru syscall.Rusage
		syscall.Getrusage(syscall.RUSAGE_SELF, &ru)
		return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
	}
	for start := used(); used()-start < d; {
		sink.Add(1)
	}
}

func check(err error) {
	if err != nil {
		fmt.Println("probe:", err)
		os.Exit(98)
	}
}

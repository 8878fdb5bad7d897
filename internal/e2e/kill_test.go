package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// lives is how many processes TestKilledAtAnyMoment kills.
const lives = 1000

// graveyard is an environment whose extension is killed again and again. It speaks the Extensions API to it, as
// lambdasim does, but starts a process in a few milliseconds.
type graveyard struct {
	t       *testing.T
	api     *httptest.Server
	addr    string // of the extension's receiver
	tmp     string
	backend *otlptest.Backend
	build   otlptest.Builder

	mu       sync.Mutex
	born     chan struct{} // closed when the process has registered: its listeners are open by then
	shutdown chan string   // the reason of the SHUTDOWN that Next answers
	onTaken  func()        // called when a request has reached the backend, before it is answered

	answered []string    // ids of the records whose requests were answered 200
	of       map[int]int // how many of them by life
	left     map[int]int // records that a life found in the spool, as its log says
	accounts map[int]map[string]int
}

func newGraveyard(t *testing.T) *graveyard {
	g := &graveyard{
		t: t, addr: freeAddr(t), tmp: t.TempDir(), backend: newBackend(t, otlptest.Options{}),
		of: map[int]int{}, left: map[int]int{}, accounts: map[int]map[string]int{},
	}
	g.build.Name = "life"
	g.backend.PoisonIf(func(*otlptest.Request) bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.onTaken != nil {
			g.onTaken()
		}
		return false
	})
	mux := http.NewServeMux()
	mux.HandleFunc("POST /2020-01-01/extension/register", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Lambda-Extension-Identifier", "an-id")
		io.WriteString(w, `{"functionName":"f","functionVersion":"1","handler":"h"}`)
		g.mu.Lock()
		defer g.mu.Unlock()
		select {
		case <-g.born: // a call of the process before this one, which was killed while it made it
		default:
			close(g.born)
		}
	})
	mux.HandleFunc("PUT /2022-07-01/telemetry", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusAccepted)
		io.WriteString(w, `{"errorType":"Telemetry.NotSupported"}`)
	})
	mux.HandleFunc("GET /2020-01-01/extension/event/next", g.next)
	g.api = httptest.NewServer(mux)
	t.Cleanup(g.api.Close)
	return g
}

// next answers with an invocation every few milliseconds, until there is a SHUTDOWN to tell of.
func (g *graveyard) next(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	shutdown := g.shutdown
	g.mu.Unlock()
	ev := map[string]any{"eventType": "INVOKE", "requestId": strconv.Itoa(rand.Int()), "deadlineMs": time.Now().Add(3 * time.Second).UnixMilli()}
	select {
	case reason := <-shutdown:
		ev = map[string]any{"eventType": "SHUTDOWN", "shutdownReason": reason, "deadlineMs": time.Now().Add(10 * time.Second).UnixMilli()}
	case <-time.After(rand.N(4 * time.Millisecond)):
	case <-r.Context().Done():
		return
	}
	json.NewEncoder(w).Encode(ev)
}

// live runs the n-th process, until death says that it is time to go, or it has ended by itself. While it lives,
// two clients post to it.
func (g *graveyard) live(n int, mode string, death func(kill context.CancelFunc, born <-chan struct{}) (answered func(), reason string)) {
	g.t.Helper()
	born, shutdown := make(chan struct{}), make(chan string, 1)
	g.mu.Lock()
	g.born, g.shutdown = born, shutdown
	g.mu.Unlock()
	ctx, kill := context.WithCancel(g.t.Context()) // by SIGKILL
	defer kill()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(binaries, extensionName))
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Env = []string{
		"AWS_LAMBDA_RUNTIME_API=" + strings.TrimPrefix(g.api.URL, "http://"), "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=128", "TMPDIR=" + g.tmp,
		"OTLP_RELAY_SPOOL=tmp", "OTLP_RELAY_FLUSH=" + mode, "OTLP_RELAY_FLUSH_INTERVAL=2", "OTLP_RELAY_FLUSH_TIMEOUT=50",
		"OTLP_RELAY_ENDPOINT=" + g.backend.URL(), "OTLP_RELAY_HEADERS=x-life=" + strconv.Itoa(n),
		"OTLP_RELAY_HTTP_ADDR=" + g.addr, "OTLP_RELAY_GRPC_ADDR=127.0.0.1:" + strconv.Itoa(port(g.addr)+1),
	}
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	answered, reason := death(kill, born)
	posting, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { g.post(posting, n, born, answered) })
	}
	if reason != "" {
		wg.Go(func() {
			select {
			case <-born:
			case <-ctx.Done():
			}
			time.Sleep(rand.N(20 * time.Millisecond))
			stop()
			shutdown <- reason
		})
	}
	err := cmd.Wait()
	killed := ctx.Err() != nil
	kill()
	stop()
	wg.Wait()
	g.bury(n, out.String(), killed, err)
}

func port(addr string) int {
	_, p, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(p)
	return n
}

// post sends requests of a few records, one after the other, until ctx ends or the extension is gone.
func (g *graveyard) post(ctx context.Context, life int, born <-chan struct{}, answered func()) {
	client := &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	select {
	case <-born:
	case <-ctx.Done():
		return
	}
	for ctx.Err() == nil {
		r := g.build.Build(threeSignals[rand.IntN(3)], otlp.Encoding(life%2), 1+rand.IntN(5))
		// Not with ctx: what is begun is brought to its end, so that it is known whether it was answered.
		resp, err := client.Post("http://"+g.addr+r.Signal.Path(), r.Encoding.ContentType(), bytes.NewReader(r.Body))
		if err != nil {
			return // it is dead
		}
		io.Copy(io.Discard, resp.Body)
		if resp.Body.Close(); resp.StatusCode != http.StatusOK {
			g.t.Errorf("life %d: answered %d", life, resp.StatusCode)
		}
		g.mu.Lock()
		g.answered = append(g.answered, r.IDs...)
		g.of[life] += len(r.IDs)
		g.mu.Unlock()
		answered()
	}
}

var foundInSpool = regexp.MustCompile(`left telemetry in the spool" .*records=(\d+)`)

// bury looks at what a life has said.
func (g *graveyard) bury(n int, out string, killed bool, err error) {
	g.t.Helper()
	if strings.Contains(out, "level=ERROR") || strings.Contains(out, "records dropped") || strings.Contains(out, "spool could not") ||
		strings.Contains(out, "kept in memory only") || !killed && (err != nil || !strings.Contains(out, "balanced=true")) {
		g.t.Errorf("life %d, killed %v, ended with %v:\n%s", n, killed, err, out)
	}
	if m := foundInSpool.FindStringSubmatch(out); m != nil {
		g.left[n], _ = strconv.Atoi(m[1])
	}
	if _, line, ok := strings.Cut(out, "msg=ledger"); ok {
		a := map[string]int{}
		for _, m := range ledgerField.FindAllStringSubmatch(line, -1) {
			records, _ := strconv.Atoi(m[2])
			a[m[1][strings.IndexByte(m[1], '.')+1:]] += records // of all signals
		}
		g.accounts[n] = a
	}
}

// taken is what the backend took, by life and signal, in order.
func (g *graveyard) taken() map[int][otlp.SignalCount][][]string {
	all := map[int][otlp.SignalCount][][]string{}
	for _, q := range g.backend.Requests() {
		n, err := strconv.Atoi(q.Header.Get("X-Life"))
		if err != nil {
			g.t.Fatalf("a request of no life: %v", q.Header)
		}
		if q.Taken {
			life := all[n]
			life[q.Signal] = append(life[q.Signal], q.IDs)
			all[n] = life
		}
	}
	return all
}

// The extension is killed at 1,000 moments: at any after its start, with a request at the backend that has not been
// answered yet, right after an answer to the function, or asked to end after a timeout. No record that the function was
// told is taken is lost, and none arrives twice but those of the one request of each signal whose answer a kill may have
// come before.
func TestKilledAtAnyMoment(t *testing.T) {
	g := newGraveyard(t)
	orderly := 0
	for n := range lives {
		g.backend.Heal()
		if n%7 >= 5 {
			g.backend.Fail(otlptest.Fault{Kind: otlptest.Status, Code: http.StatusServiceUnavailable})
		}
		g.backend.SetDelay(rand.N(3 * time.Millisecond))
		g.live(n, []string{"interval", "next", "end", "auto"}[n/2%4], func(kill context.CancelFunc, born <-chan struct{}) (func(), string) {
			atTaken, atAnswered := -1, -1
			switch rand.IntN(10) {
			case 0:
				orderly++
				return func() {}, "timeout"
			case 1, 2:
				atTaken = rand.IntN(4)
			case 3, 4:
				atAnswered = rand.IntN(20)
			}
			var count struct {
				sync.Mutex
				taken, answered int
			}
			g.mu.Lock()
			g.onTaken = func() {
				count.Lock()
				defer count.Unlock()
				if count.taken == atTaken {
					kill()
				}
				count.taken++
			}
			g.mu.Unlock()
			limit := 40 * time.Millisecond
			if atTaken < 0 && atAnswered < 0 {
				limit = rand.N(limit)
			}
			time.AfterFunc(limit, kill)
			return func() {
				count.Lock()
				defer count.Unlock()
				if count.answered == atAnswered {
					kill()
				}
				count.answered++
			}, ""
		})
		g.mu.Lock()
		g.onTaken = nil
		g.mu.Unlock()
	}
	g.backend.Heal()
	g.live(lives, "next", func(context.CancelFunc, <-chan struct{}) (func(), string) { return func() {}, "spindown" })

	if lost := g.backend.Lost(g.answered); len(lost) > 0 {
		t.Errorf("%d of %d records lost", len(lost), len(g.answered))
	}
	if _, err := os.Stat(filepath.Join(g.tmp, "otlp-relay")); !os.IsNotExist(err) {
		t.Errorf("the spool is left behind: %v", err)
	}
	taken := g.taken()
	repeated := g.mustBeOnceEach(taken)
	g.mustAccount(taken)
	t.Logf("%d processes, %d of them not killed; %d records answered 200; %d requests were sent again, with %d records",
		lives+1, orderly+1, len(g.answered), repeated, len(g.backend.Duplicates()))
}

// mustBeOnceEach checks that what has arrived twice was in the last request of its signal in an earlier life, and
// answers how many requests that happened to.
func (g *graveyard) mustBeOnceEach(taken map[int][otlp.SignalCount][][]string) (repeated int) {
	g.t.Helper()
	type request struct {
		life     int
		last     bool // of its signal in a life that was killed
		repeated bool
	}
	seen := map[string]*request{}
	for n := range lives + 1 {
		for _, requests := range taken[n] {
			_, orderly := g.accounts[n]
			for i, ids := range requests {
				this := &request{life: n, last: i == len(requests)-1 && !orderly}
				for _, id := range ids {
					before := seen[id]
					seen[id] = this
					if before == nil || before.repeated {
						continue
					}
					if before.repeated = true; before.life == n || !before.last {
						g.t.Errorf("what arrived in life %d was sent again in life %d, though its answer had come long before", before.life, n)
					}
					repeated++
				}
			}
		}
	}
	return repeated
}

// mustAccount checks the ledgers of the lives that were not killed against what they were seen to do.
func (g *graveyard) mustAccount(taken map[int][otlp.SignalCount][][]string) {
	g.t.Helper()
	for n, a := range g.accounts {
		delivered := 0
		for _, requests := range taken[n] {
			for _, ids := range requests {
				delivered += len(ids)
			}
		}
		if a["accepted"] != g.of[n] || a["delivered"] != delivered || a["replayed"] != g.left[n] || a["accepted"]+a["replayed"] != a["delivered"]+a["spooled"] {
			g.t.Errorf("life %d was seen to accept %d, deliver %d, find %d; its account: %v", n, g.of[n], delivered, g.left[n], a)
		}
		if next, ok := g.left[n+1]; ok && next != a["spooled"] || n == lives && a["spooled"] > 0 {
			g.t.Errorf("life %d left %d records, the next one found %d", n, a["spooled"], next)
		}
	}
	if len(g.accounts) < lives/50 {
		g.t.Errorf("only %d accounts: this test proves too little", len(g.accounts))
	}
	found := slices.Collect(func(yield func(int) bool) {
		for _, n := range g.left {
			if n > 0 && !yield(n) {
				return
			}
		}
	})
	if len(found) < lives/10 {
		g.t.Errorf("only %d lives found something in the spool: %s", len(found), fmt.Sprint(found))
	}
}

package e2e

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

var (
	shellBlock = regexp.MustCompile("(?s)```sh\n(curl .*?)```")
	curlHeader = regexp.MustCompile(`-H '([^:]+): ([^']+)'`)
	curlData   = regexp.MustCompile(`(?s)-d '(.*)'`)
)

// The README's recipe, as it stands there, sends a span without an SDK.
func TestCurlRecipe(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := shellBlock.FindAllSubmatch(readme, -1)
	if len(blocks) != 1 || !bytes.Contains(blocks[0][1], []byte("localhost:4318")) {
		t.Fatalf("the README has %d curl recipes, want one that sends to localhost:4318", len(blocks))
	}
	// Outside of a sandbox nothing is frozen: what comes leaves at once.
	c := newChain(t, setup{change: func(cfg *lambdasim.Config) { cfg.Freeze = lambdasim.FreezeOff }})
	recipe := strings.ReplaceAll(string(blocks[0][1]), "localhost:4318", c.addr)

	send := runRecipe
	if _, err := exec.LookPath("curl"); err != nil {
		t.Log("no curl here: the test sends what the recipe says")
		send = imitateRecipe
	}
	if answer := send(t, recipe); !strings.HasPrefix(answer, "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(answer, "\r\n\r\n{}") {
		t.Errorf("the recipe was answered %q, want 200 and {}", answer)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := c.backend.WaitRecords(ctx, otlp.Traces, 1); err != nil {
		t.Errorf("the span did not arrive: %v", err)
	}
	if lost := c.backend.Lost([]string{"eee19b7ec3c1b174"}); len(lost) > 0 {
		t.Error("another span arrived than the recipe's")
	}
	c.made[otlp.Traces] = 1
	c.mustArrive(c.shutdown())
}

func runRecipe(t *testing.T, recipe string) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", recipe)
	cmd.Env = append(os.Environ(), "NO_PROXY=*")
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("run the recipe: %v\n%s", err, &complaint)
	}
	return string(out)
}

// imitateRecipe sends the recipe's request and writes the answer as curl -i does.
func imitateRecipe(t *testing.T, recipe string) string {
	t.Helper()
	url, header, data := strings.Fields(recipe)[2], curlHeader.FindStringSubmatch(recipe), curlData.FindStringSubmatch(recipe)
	if header == nil || data == nil {
		t.Fatalf("the recipe has no header or no data:\n%s", recipe)
	}
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(data[1]))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(header[1], header[2])
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer bytes.Buffer
	resp.Write(&answer)
	return answer.String()
}

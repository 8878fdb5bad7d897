package e2e

import (
	"archive/zip"
	"bytes"
	"debug/elf"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// layers are what `make layer` writes, their budgets in bytes, and what their programs run on.
var layers = []struct {
	file    string
	most    int64
	machine elf.Machine
}{
	{"layer-x86_64.zip", 3_400_000, elf.EM_X86_64},
	{"layer-arm64.zip", 3_200_000, elf.EM_AARCH64},
}

func TestLayer(t *testing.T) {
	first, second := makeLayer(t), makeLayer(t)
	for i, l := range layers {
		if !bytes.Equal(first[i], second[i]) {
			t.Errorf("%s: two runs of make wrote different bytes", l.file)
		}
		if size := int64(len(first[i])); size > l.most {
			t.Errorf("%s: %d bytes, over the budget of %d", l.file, size, l.most)
		}
		files := unzip(t, first[i])
		program, err := elf.NewFile(bytes.NewReader(files["extensions/otlp-relay"]))
		if err != nil {
			t.Fatalf("%s: the extension is no ELF program: %v", l.file, err)
		}
		if program.Machine != l.machine {
			t.Errorf("%s: the extension is for %v, want %v", l.file, program.Machine, l.machine)
		}
		if dynamic, _ := program.ImportedLibraries(); len(dynamic) > 0 {
			t.Errorf("%s: the extension needs %v, which a runtime may not have", l.file, dynamic)
		}
		script, err := os.ReadFile(filepath.Join("..", "..", "layer", "otlp-relay-exec"))
		if err != nil || !bytes.Equal(files["otlp-relay-exec"], script) {
			t.Errorf("%s: the wrapper is not that of layer/ (%v)", l.file, err)
		}
	}
}

// makeLayer runs make and reads the zips.
func makeLayer(t *testing.T) (zips [][]byte) {
	t.Helper()
	cmd := exec.Command("make", "layer")
	cmd.Dir = filepath.Join("..", "..")
	// This test may run under make itself, whose variables are not for this one.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS=")
	})
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make layer: %v\n%s", err, out)
	}
	for _, l := range layers {
		zipped, err := os.ReadFile(filepath.Join("..", "..", "build", l.file))
		if err != nil {
			t.Fatal(err)
		}
		zips = append(zips, zipped)
	}
	return zips
}

// unzip reads a layer, which holds the extension and the wrapper, both executable, and nothing else: Lambda
// executes whatever lies in extensions/.
func unzip(t *testing.T, zipped []byte) map[string][]byte {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(zipped), int64(len(zipped)))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, f := range z.File {
		if f.Mode() != 0o755 {
			t.Errorf("%s has mode %v, want 0755", f.Name, f.Mode())
		}
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if files[f.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	if len(z.File) != 2 || files["extensions/otlp-relay"] == nil || files["otlp-relay-exec"] == nil {
		t.Fatalf("the layer holds %d files, want extensions/otlp-relay and otlp-relay-exec", len(z.File))
	}
	return files
}

// With the exec wrapper the standard variables may name the backend: the SDK comes to the extension all the
// same, and the extension goes to the backend, with the headers that are for it alone.
func TestExecWrapper(t *testing.T) {
	wrapper, err := filepath.Abs(filepath.Join("..", "..", "layer", "otlp-relay-exec"))
	if err != nil {
		t.Fatal(err)
	}
	further := filepath.Join(t.TempDir(), "further")
	if err := os.WriteFile(further, []byte("#!/bin/sh\necho \"further wrapper: $OTEL_EXPORTER_OTLP_ENDPOINT\"\nexec \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	backend := newBackend(t, otlptest.Options{})
	c := newChain(t, setup{
		backend: backend,
		vars: map[string]string{
			"OTLP_RELAY_ENDPOINT":                 "",
			"OTLP_RELAY_EXEC_WRAPPER":             further,
			"OTEL_EXPORTER_OTLP_ENDPOINT":         backend.URL(),
			"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT":  backend.URL() + "/otlp/v1/traces",
			"OTEL_EXPORTER_OTLP_HEADERS":          "api-key=of-the-backend",
			"OTEL_EXPORTER_OTLP_COMPRESSION":      "gzip",
			"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf",
		},
		change: func(cfg *lambdasim.Config) { cfg.Wrapper = wrapper },
	})
	for range 3 {
		c.invoke(2)
	}
	c.mustArrive(c.shutdown())
	for _, q := range backend.Requests() {
		if agent := q.Header.Get("User-Agent"); !strings.HasPrefix(agent, "otlp-relay/") || q.Header.Get("Api-Key") != "of-the-backend" {
			t.Errorf("a request came from %q with the key %q", agent, q.Header.Get("Api-Key"))
		}
		if want := map[otlp.Signal]string{otlp.Traces: "/otlp/v1/traces"}[q.Signal]; want != "" && q.Path != want {
			t.Errorf("%s came to %s, want %s", q.Signal, q.Path, want)
		}
	}
	_, port, _ := strings.Cut(c.addr, ":")
	if lines := c.lines("function"); len(lines) != 1 || lines[0] != "further wrapper: http://localhost:"+port {
		t.Errorf("the function printed %q, want the further wrapper's line", lines)
	}
}

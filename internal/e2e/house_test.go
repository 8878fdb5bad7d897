package e2e

import (
	"bufio"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/otlp-relay/otlp-relay/"

// mayImport is the table of ARCHITECTURE.md: who may import whom, outside of tests.
var mayImport = map[string][]string{
	"internal/otlp":      {},
	"internal/tcp":       {},
	"internal/onecore":   {},
	"internal/lambdaapi": {"internal/tcp"},
	"internal/tune":      {},
	"internal/buffer":    {"internal/otlp"},
	"internal/receiver":  {"internal/otlp", "internal/tcp"},
	"internal/export":    {"internal/otlp", "internal/tcp"},
	"internal/flush":     {"internal/otlp", "internal/buffer"},
	"internal/spool":     {"internal/otlp"},
	"internal/lambdasim": {"internal/otlp"},
	"internal/otlptest":  {"internal/otlp"},
	"internal/extension": {"internal/otlp", "internal/lambdaapi", "internal/tune", "internal/buffer", "internal/receiver", "internal/export", "internal/flush", "internal/spool"},
	"extension":          {"internal/extension", "internal/onecore"},
	"examples/go":        {},
	"internal/e2e/floor": {},
}

// anyTest is what every test may import too: the doubles, and the vocabulary that they speak.
var anyTest = []string{"internal/otlp", "internal/lambdasim", "internal/otlptest"}

// notInExtension is what must not be linked into the extension, and why: importing is the cost, not using.
var notInExtension = map[string]string{
	"google.golang.org/":                   "the protobuf runtime and grpc-go: 1.7 to 6.4 MB, 0.6 to 2.5 ms of CPU at every cold start",
	"go.opentelemetry.io/":                 "the OTel SDK and pdata: 1 to 7 MB",
	"github.com/aws/aws-sdk-go-v2/service": "AWS service clients: 0.1 to 0.3 ms of CPU each",
	"github.com/json-iterator/":            "reflection",
	"testing":                              "test code",
}

type goPackage struct {
	ImportPath, Doc, Dir               string
	Imports, TestImports, XTestImports []string
	GoFiles                            []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	out, err := goTool("list", "-json=ImportPath,Doc,Dir,Imports,TestImports,XTestImports,GoFiles", "./...").Output()
	if err != nil {
		t.Fatalf("list packages: %v", err)
	}
	var all []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p goPackage
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// goTool is the go command at the top of the module.
func goTool(args ...string) *exec.Cmd {
	cmd := exec.Command("go", args...)
	cmd.Dir = filepath.Join("..", "..")
	return cmd
}

func TestImports(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		allowed, listed := mayImport[name]
		seen[name] = true
		free := strings.HasPrefix(name, "cmd/relayctl") || strings.HasPrefix(name, "internal/e2e") || strings.HasPrefix(name, "layer")
		if !listed && !free {
			t.Errorf("%s has no row in the import table: add it here and in ARCHITECTURE.md", name)
		}
		for _, imp := range p.Imports {
			if dep, ours := strings.CutPrefix(imp, module); ours && !free && !slices.Contains(allowed, dep) {
				t.Errorf("%s must not import %s", name, dep)
			}
		}
		for _, imp := range append(p.TestImports, p.XTestImports...) {
			dep, ours := strings.CutPrefix(imp, module)
			if ours && !free && dep != name && !slices.Contains(allowed, dep) && !slices.Contains(anyTest, dep) {
				t.Errorf("the tests of %s must not import %s", name, dep)
			}
		}
	}
	for name := range mayImport {
		if !seen[name] {
			t.Errorf("the import table has a row for %s, which does not exist", name)
		}
	}
}

func TestExtensionLinksNothingHeavy(t *testing.T) {
	out, err := goTool("list", "-deps", "./extension").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, dep := range strings.Fields(string(out)) {
		for banned, why := range notInExtension {
			if dep == banned || strings.HasSuffix(banned, "/") && strings.HasPrefix(dep, banned) {
				t.Errorf("the extension links %s (%s)", dep, why)
			}
		}
	}
}

func TestEveryPackageIsDocumented(t *testing.T) {
	for _, p := range packages(t) {
		if p.Doc == "" && len(p.GoFiles) > 0 {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

func TestFilesHoldOneJob(t *testing.T) {
	const most = 400
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		lines := 0
		for s := bufio.NewScanner(f); s.Scan(); {
			lines++
		}
		if lines > most {
			t.Errorf("%s has %d lines, more than %d: split it by job", path, lines, most)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestBinarySizes keeps the budgets that cold starts pay for: size is latency on the first exec.
func TestBinarySizes(t *testing.T) {
	for arch, limit := range map[string]int64{"amd64": 8_000_000, "arm64": 7_500_000} {
		out := filepath.Join(t.TempDir(), arch)
		cmd := goTool("build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out, "./extension")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
		if msg, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build for %s: %v\n%s", arch, err, msg)
		}
		info, err := os.Stat(out)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > limit {
			t.Errorf("%s: %d bytes, over the budget of %d", arch, info.Size(), limit)
		}
	}
}

// TestOneCoreComesFirst looks at the order in which the packages of the built extension are initialised: one that
// comes late costs what it is there to save.
func TestOneCoreComesFirst(t *testing.T) {
	cmd := exec.Command(filepath.Join(binaries, extensionName))
	cmd.Env = []string{"GODEBUG=inittrace=1"}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	_ = cmd.Run() // it finds no Lambda and gives up
	before, _, found := strings.Cut(out.String(), "internal/onecore @")
	if n := strings.Count(before, "init "); !found || n > 10 || strings.Contains(before, "init os ") {
		t.Errorf("%d packages are initialised before onecore:\n%s", n, out.String())
	}
}

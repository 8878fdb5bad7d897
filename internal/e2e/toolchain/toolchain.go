// Package toolchain finds what `make tools` installed into build/tools (tools.mk): interpreters, Lambda's official
// runtimes for them, the examples with their packages.
package toolchain

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// ErrMissing is in the error of a tool that could not be installed here.
var ErrMissing = errors.New("not installed: run `make tools`")

// Dir is the folder of a tool in build/tools, by its name in tools.mk. A tool that is there but older than what it
// is made from is an error, but not ErrMissing.
func Dir(name string) (string, error) {
	root, err := root()
	if err != nil {
		return "", err
	}
	ok := filepath.Join("build", "tools", name, "ok")
	if _, err := os.Stat(filepath.Join(root, ok)); err != nil {
		return "", fmt.Errorf("%s: %w", name, ErrMissing)
	}
	cmd := exec.Command("make", "-q", ok)
	// A test may run under make itself, whose variables are not for this one.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS=")
	})
	if cmd.Dir = root; cmd.Run() != nil {
		return "", fmt.Errorf("%s: build/tools/%[1]s is out of date: run `make tools`", name)
	}
	return filepath.Join(root, "build", "tools", name), nil
}

// Need is Dir for a test that cannot do without: it skips the test where the tool is missing, and fails it where
// CI is true.
func Need(t testing.TB, name string) string {
	t.Helper()
	dir, err := Dir(name)
	switch {
	case err == nil:
		return dir
	case errors.Is(err, ErrMissing) && os.Getenv("CI") != "true":
		t.Skipf("SKIPPED: %v", err)
	}
	t.Fatal(err)
	return ""
}

// root is the top of the module that the working directory is in.
func root() (string, error) {
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(mod))), nil
}

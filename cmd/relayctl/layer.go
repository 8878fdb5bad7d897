package main

import (
	"archive/zip"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/flate"

	"github.com/otlp-relay/otlp-relay/layer"
)

// runLayer is `relayctl layer`: it packs a built extension into a Lambda layer.
func runLayer(_ context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("relayctl layer", flag.ContinueOnError)
	fs.SetOutput(out)
	binary := fs.String("binary", "", "the extension, built for linux (build/x86_64/otlp-relay)")
	target := fs.String("out", "", "the zip to write (build/layer-x86_64.zip); an architecture in its name must be the binary's")
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil:
		return usageError{err}
	case *binary == "" || *target == "" || fs.NArg() > 0:
		return misuse("layer needs --binary and --out, and nothing else")
	}
	return writeLayer(*binary, *target, out)
}

// writeLayer packs the binary and the exec wrapper, and prints sizes in MB of 10^6 bytes.
func writeLayer(binary, target string, out io.Writer) error {
	arch, err := checkBinary(binary)
	if err != nil {
		return fmt.Errorf("check the binary %s: %w", binary, err)
	}
	for _, other := range architectures {
		if other != arch && strings.Contains(filepath.Base(target), other) {
			return fmt.Errorf("%s is built for %s, but the layer %s is for %s: build it with GOARCH=%s",
				binary, arch, target, other, goarch[other])
		}
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("read the binary: %w", err)
	}
	packed, err := packLayer(program)
	if err != nil {
		return fmt.Errorf("pack the layer: %w", err)
	}
	if err := os.WriteFile(target, packed, 0o644); err != nil {
		return fmt.Errorf("write the layer: %w", err)
	}
	fmt.Fprintf(out, "%s: %.2f MB (%s: otlp-relay %.2f MB, otlp-relay-exec)\n", target, megabytes(len(packed)), arch, megabytes(len(program)))
	return nil
}

func megabytes(n int) float64 { return float64(n) / 1e6 }

// The architectures as Lambda names them, and as Go does.
var (
	architectures = map[elf.Machine]string{elf.EM_X86_64: "x86_64", elf.EM_AARCH64: "arm64"}
	goarch        = map[string]string{"x86_64": "amd64", "arm64": "arm64"}
)

// checkBinary refuses what Lambda could not run, and says which architecture the binary is for. A file in
// extensions/ that cannot be executed makes the whole function fail.
func checkBinary(path string) (arch string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if info.Mode()&0o111 == 0 {
		return "", errors.New("it is not executable: chmod +x it")
	}
	f, err := elf.Open(path)
	if err != nil {
		return "", fmt.Errorf("it is no Linux program: build it with GOOS=linux: %w", err)
	}
	defer f.Close()
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return "", fmt.Errorf("it is no Linux program but of ELF type %v", f.Type)
	}
	arch, ok := architectures[f.Machine]
	if !ok {
		return "", fmt.Errorf("it is built for %v: Lambda runs x86_64 and arm64", f.Machine)
	}
	return arch, nil
}

// packLayer makes the layer's zip: the same program gives the same bytes.
// Only executables may lie in extensions/: Lambda runs all that is there.
func packLayer(program []byte) ([]byte, error) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) {
		return flate.NewWriter(w, flate.BestCompression)
	})
	for _, file := range []struct {
		name    string
		content []byte
	}{
		{"extensions/otlp-relay", program},
		{"otlp-relay-exec", []byte(layer.ExecWrapper)},
	} {
		header := &zip.FileHeader{
			Name: file.name, Method: zip.Deflate,
			Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC), // the first day that zip knows
		}
		header.SetMode(0o755)
		w, err := z.CreateHeader(header)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(file.content); err != nil {
			return nil, err
		}
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

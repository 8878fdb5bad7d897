package main

import (
	"archive/zip"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/otlp-relay/otlp-relay/layer"
)

// program is the least ELF file there is, and some text.
func program(machine elf.Machine, kind elf.Type) []byte {
	var b bytes.Buffer
	h := elf.Header64{Type: uint16(kind), Machine: uint16(machine), Version: 1, Ehsize: 64}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	binary.Write(&b, binary.LittleEndian, h)
	b.WriteString(strings.Repeat("machine code ", 1000))
	return b.Bytes()
}

func TestLayer(t *testing.T) {
	dir := t.TempDir()
	content := program(elf.EM_AARCH64, elf.ET_EXEC)
	path := filepath.Join(dir, "otlp-relay")
	if err := os.WriteFile(path, content, 0o755); err != nil {
		t.Fatal(err)
	}
	var zips [2][]byte
	for i, name := range []string{"layer-arm64.zip", "again.zip"} {
		var stdout bytes.Buffer
		out := filepath.Join(dir, name)
		if err := runLayer(t.Context(), []string{"--binary", path, "--out", out}, &stdout); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(stdout.String(), "arm64: otlp-relay 0.01 MB") {
			t.Errorf("stdout %q", &stdout)
		}
		var err error
		if zips[i], err = os.ReadFile(out); err != nil {
			t.Fatal(err)
		}
		os.Chtimes(path, info(t, path).ModTime().AddDate(1, 0, 0), info(t, path).ModTime().AddDate(1, 0, 0))
	}
	if !bytes.Equal(zips[0], zips[1]) {
		t.Error("the same program gives different bytes")
	}
	z, err := zip.NewReader(bytes.NewReader(zips[0]), int64(len(zips[0])))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]byte{"extensions/otlp-relay": content, "otlp-relay-exec": []byte(layer.ExecWrapper)}
	if len(z.File) != len(want) {
		t.Errorf("%d entries", len(z.File))
	}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, want[f.Name]) || f.Mode() != 0o755 {
			t.Errorf("%s: %v, mode %v, %d bytes", f.Name, err, f.Mode(), len(got))
		}
	}
}

func info(t *testing.T, path string) os.FileInfo {
	t.Helper()
	i, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestLayerRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, content []byte, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := file("good", program(elf.EM_X86_64, elf.ET_DYN), 0o755)
	out := filepath.Join(dir, "layer.zip")
	tests := []struct {
		name   string
		args   []string
		misuse bool
		want   string
	}{
		{"no arguments", nil, true, "needs --binary and --out"},
		{"unknown flag", []string{"--x"}, true, "not defined"},
		{"too many", []string{"--binary", good, "--out", out, "more"}, true, "nothing else"},
		{"missing", []string{"--binary", filepath.Join(dir, "none"), "--out", out}, false, "no such file"},
		{"not executable", []string{"--binary", file("plain", program(elf.EM_X86_64, elf.ET_EXEC), 0o644), "--out", out}, false, "chmod +x"},
		{"a script", []string{"--binary", file("script", []byte("#!/bin/sh\n"), 0o755), "--out", out}, false, "GOOS=linux"},
		{"an object", []string{"--binary", file("object", program(elf.EM_X86_64, elf.ET_REL), 0o755), "--out", out}, false, "ET_REL"},
		{"another machine", []string{"--binary", file("riscv", program(elf.EM_RISCV, elf.ET_EXEC), 0o755), "--out", out}, false, "EM_RISCV"},
		{"the other architecture", []string{"--binary", good, "--out", filepath.Join(dir, "layer-arm64.zip")}, false, "build it with GOARCH=arm64"},
		{"nowhere to write", []string{"--binary", good, "--out", filepath.Join(dir, "none", "x.zip")}, false, "write the layer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := runLayer(t.Context(), tt.args, io.Discard)
			if err == nil || !strings.Contains(err.Error(), tt.want) || errors.As(err, new(usageError)) != tt.misuse {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a refused layer was written")
	}
}

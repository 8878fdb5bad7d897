package main

import (
	"context"
	"debug/elf"
	"debug/gosym"
	"fmt"
	"path/filepath"
	"regexp"
)

// share is a part of a binary: the symbols whose name, and behind a blank the source file of a function, the pattern matches.
type share struct {
	name    string
	symbols *regexp.Regexp
}

// shares are what the extension has and a smaller one could do without.
func shares() []share {
	return []share{
		{"klauspost/compress", regexp.MustCompile(`^github\.com/klauspost/compress/`)},
		{"aws-sdk-go-v2 and smithy-go (SigV4)", regexp.MustCompile(`^github\.com/aws/`)},
		{"gRPC in, the receiver's own", regexp.MustCompile(` .*/internal/receiver/(grpc\w*|frames)\.go$`)},
		{"gRPC in, net/http's HTTP/2", regexp.MustCompile(`^(net/http\.(\(\*)?http2|vendor/golang\.org/x/net/http2/)`)},
		{"gRPC out", regexp.MustCompile(` .*/internal/export/(grpc|http2|hpack)\w*\.go$`)},
	}
}

// measureSymbols adds to the table of sizes what each share has in the binaries for x86_64.
func (l *lab) measureSymbols(ctx context.Context, t *table) error {
	var sizes [2][]float64
	for i, pkg := range []string{"./internal/e2e/floor", "./extension"} {
		out := filepath.Join(l.dir, "symbols")
		if err := buildIn(ctx, l.root, "-w", out, pkg, "linux", "amd64"); err != nil {
			return err
		}
		var err error
		if sizes[i], err = symbolSizes(out, shares()); err != nil {
			return fmt.Errorf("read the symbols of %s: %w", pkg, err)
		}
	}
	for i, s := range shares() {
		base, own := sizes[0][i], sizes[1][i]
		if own == 0 {
			return fmt.Errorf("the extension has no symbols of %q: the pattern has grown old", s.name)
		}
		t.row("symbols of "+s.name+", kB", "", number(base/1e3), number(own/1e3), ratio(own, base), "")
	}
	t.note("The symbols are functions and variables of an unstripped build for x86_64, as far as they are in the file: without their share of the runtime's tables " +
		"(types, function data), which a stripped binary has too, and without what they make of the standard library necessary. The floor links the HTTP/2 of " +
		"net/http unasked, and with its client.")
	return nil
}

// symbolSizes sums the bytes of each share's symbols.
func symbolSizes(path string, of []share) ([]float64, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		return nil, err
	}
	text, lines := f.Section(".text"), f.Section(".gopclntab")
	if text == nil || lines == nil {
		return nil, fmt.Errorf("not a binary of Go's")
	}
	data, err := lines.Data()
	if err != nil {
		return nil, err
	}
	files, err := gosym.NewTable(nil, gosym.NewLineTable(data, text.Addr))
	if err != nil {
		return nil, err
	}
	sizes := make([]float64, len(of))
	for _, s := range symbols {
		if s.Section == elf.SHN_UNDEF || int(s.Section) >= len(f.Sections) || f.Sections[s.Section].Type == elf.SHT_NOBITS {
			continue // not in the file
		}
		name := s.Name
		if f.Sections[s.Section] == text {
			file, _, _ := files.PCToLine(s.Value)
			name += " " + file
		}
		for i, o := range of {
			if o.symbols.MatchString(name) {
				sizes[i] += float64(s.Size)
			}
		}
	}
	return sizes, nil
}

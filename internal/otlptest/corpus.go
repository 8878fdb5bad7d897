package otlptest

import (
	"archive/zip"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// Entry is one export request as a real SDK sent it.
type Entry struct {
	File       string
	Language   string // of the SDK
	Runtime    string
	SDKVersion string
	Protocol   string // http/protobuf, http/json, grpc
	Signal     otlp.Signal
	Encoding   otlp.Encoding
	Coding     string // Content-Encoding, or of gRPC the message's: "", gzip, deflate, zstd
	Records    int
	Size       int         // bytes of the message without compression
	Header     http.Header // canonical names
	Path       string
	RawHead    string // the request head as sent; "" for gRPC
	Body       []byte // as sent, without chunk framing; of gRPC with its five-byte frame
	Message    []byte // Body without gRPC's frame: still compressed if Compressed
	Compressed bool   // Message is compressed
}

// Corpus reads the recorded requests from their archive.
func Corpus(path string) ([]Entry, error) {
	z, err := zip.OpenReader(path)
	if err != nil {
		return nil, fmt.Errorf("open the corpus: %w", err)
	}
	defer z.Close()
	index, err := fs.ReadFile(z, "index.json")
	if err != nil {
		return nil, fmt.Errorf("read the corpus: %w", err)
	}
	var lines []indexLine
	if err := json.Unmarshal(index, &lines); err != nil {
		return nil, fmt.Errorf("read the corpus's index: %w", err)
	}
	var entries []Entry
	for _, line := range lines {
		e, err := line.entry(z)
		if err != nil {
			return nil, fmt.Errorf("read %s of the corpus: %w", line.File, err)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

type indexLine struct {
	File        string      `json:"file"`
	Language    string      `json:"language"`
	Runtime     string      `json:"runtime"`
	SDKVersion  string      `json:"sdk_version"`
	Protocol    string      `json:"protocol"`
	Signal      string      `json:"signal"`
	Encoding    string      `json:"encoding"`
	Compression string      `json:"compression"`
	Records     int         `json:"records"`
	Bytes       int         `json:"bytes"`
	Size        int         `json:"decoded_bytes"`
	Path        string      `json:"path"`
	Header      http.Header `json:"headers"`
	RawHead     string      `json:"raw_head"`
}

func (l indexLine) entry(archive fs.FS) (Entry, error) {
	e := Entry{
		File: l.File, Language: l.Language, Runtime: l.Runtime, SDKVersion: l.SDKVersion, Protocol: l.Protocol,
		Coding: l.Compression, Records: l.Records, Size: l.Size, Header: l.Header, Path: l.Path, RawHead: l.RawHead,
		Compressed: l.Compression != "",
	}
	for sig := range otlp.Signal(otlp.SignalCount) {
		if sig.String() == l.Signal {
			e.Signal = sig
		}
	}
	if l.Encoding == "json" {
		e.Encoding = otlp.JSON
	}
	body, err := fs.ReadFile(archive, l.File)
	if err != nil {
		return e, err
	}
	if len(body) != l.Bytes {
		return e, fmt.Errorf("%d bytes, its index says %d: %w", len(body), l.Bytes, io.ErrUnexpectedEOF)
	}
	e.Body, e.Message = body, body
	if l.Protocol == "grpc" {
		if len(body) < 5 || int(binary.BigEndian.Uint32(body[1:])) != len(body)-5 {
			return e, fmt.Errorf("not one gRPC message: %w", io.ErrUnexpectedEOF)
		}
		e.Message, e.Compressed = body[5:], body[0] == 1
	}
	return e, nil
}

// Wire is the request as its SDK sent it, for a connection of its own.
func (e Entry) Wire() []byte {
	if e.Protocol == "grpc" {
		return GRPCWire(e.Path, e.Header, e.Body)
	}
	if strings.Contains(strings.ToLower(e.RawHead), "\r\ntransfer-encoding: chunked") {
		return fmt.Appendf(nil, "%s%x\r\n%s\r\n0\r\n\r\n", e.RawHead, len(e.Body), e.Body)
	}
	return append([]byte(e.RawHead), e.Body...)
}

// Plain is the message without compression.
func (e Entry) Plain() ([]byte, error) {
	if !e.Compressed {
		return e.Message, nil
	}
	return decompress(e.Coding, e.Message, maxBody)
}

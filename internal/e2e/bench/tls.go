package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// manyRoots is how many roots a system trusts.
const manyRoots = 144

// measureTLS compares what the first request over TLS costs a fresh process, by where the roots come from.
func measureTLS(ctx context.Context, l *lab) ([]table, error) {
	b, err := otlptest.StartBackend(otlptest.Options{TLS: true})
	if err != nil {
		return nil, err
	}
	defer b.Close()
	s, err := l.trustStore(b.CA())
	if err != nil {
		return nil, err
	}
	program := filepath.Join(l.dir, "handshake")
	if err := l.build(ctx, program, "./internal/e2e/bench/handshake", "linux", goarch()); err != nil {
		return nil, err
	}
	vs := []struct {
		name, trust, dirs string
		cpu, rss          sample
	}{
		{name: "one authority of the user's own (`OTLP_RELAY_CERTIFICATE`)", trust: s.own, dirs: s.dirs},
		{name: "the system's roots, otlp-relay", trust: "ours", dirs: s.dirs},
		{name: "the system's roots, x509, bundle alone", trust: "x509", dirs: s.empty},
		{name: "the system's roots, x509, bundle and directories", trust: "x509", dirs: s.dirs},
	}
	for range l.n(25, 2) {
		for i := range vs {
			cmd := exec.CommandContext(ctx, program, vs[i].trust, b.URL()+"/v1/traces")
			cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+s.bundle, "SSL_CERT_DIR="+vs[i].dirs)
			out, err := cmd.Output()
			if err != nil {
				return nil, fmt.Errorf("send with %s: %w %s", vs[i].name, err, stderr(err))
			}
			var ns, bytes float64
			if _, err := fmt.Sscan(string(out), &ns, &bytes); err != nil {
				return nil, err
			}
			vs[i].cpu.add(ns / 1e6)
			vs[i].rss.add(bytes / mb)
		}
	}
	t := table{
		title: "First request over TLS",
		method: fmt.Sprintf("A request, handshake included, in each of %d fresh processes, in turns; TLS 1.3 with the server on loopback. The system trusts %d made-up roots, in a bundle "+
			"and again in two directories, as Amazon Linux has them; x509 is what crypto/tls loads at its first handshake.", len(vs[0].cpu), manyRoots),
		columns: []string{"roots", "goal", "CPU, ms", "resident, MB", "above one authority, ms", "verdict"},
	}
	for i, v := range vs {
		above, goal, said := v.cpu.median()-vs[0].cpu.median(), "", ""
		if v.trust == "ours" {
			goal, said = "≤ 0.8 ms above", verdict(above, 0.8)
		}
		if i == 0 {
			above = 0
		}
		t.row(v.name, goal, number(v.cpu.median()), number(v.rss.median()), number(above), said)
	}
	return []table{t}, nil
}

func stderr(err error) []byte {
	if e, ok := err.(*exec.ExitError); ok {
		return e.Stderr
	}
	return nil
}

// trust is a system's roots as files.
type trust struct {
	bundle string // all of them
	dirs   string // SSL_CERT_DIR with copies of it
	empty  string // SSL_CERT_DIR without any
	own    string // the one that matters
}

// trustStore makes the roots of a system that trusts the authority and many others, RSA as most are.
func (l *lab) trustStore(authority []byte) (trust, error) {
	dir := filepath.Join(l.dir, "roots")
	s := trust{
		bundle: filepath.Join(dir, "tls", "bundle.pem"), own: filepath.Join(dir, "own.pem"),
		dirs: filepath.Join(dir, "ssl") + ":" + filepath.Join(dir, "tls"), empty: filepath.Join(dir, "none"),
	}
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return s, err
	}
	large, err := rsa.GenerateKey(rand.Reader, 4096)
	if err != nil {
		return s, err
	}
	curve, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return s, err
	}
	keys := []crypto.Signer{small, large, curve}
	var bundle bytes.Buffer
	for i := range manyRoots {
		der, err := selfSigned(i, keys[i%len(keys)])
		if err != nil {
			return s, err
		}
		fmt.Fprintf(&bundle, "# Root %d\n%s\n", i, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
		if i == manyRoots/2 {
			bundle.Write(authority)
		}
	}
	files := map[string][]byte{s.bundle: bundle.Bytes(), s.own: authority, filepath.Join(dir, "ssl", "bundle.crt"): bundle.Bytes()}
	for name, content := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return s, err
		}
		if err := os.WriteFile(name, content, 0o644); err != nil {
			return s, err
		}
	}
	return s, nil
}

func selfSigned(i int, key crypto.Signer) ([]byte, error) {
	c := &x509.Certificate{
		SerialNumber: big.NewInt(int64(i) + 1),
		Subject: pkix.Name{
			Country: []string{"US"}, Organization: []string{"Authority of the Benchmark, Inc."}, CommonName: fmt.Sprintf("Benchmark Root %d", i),
		},
		NotBefore: time.Now().AddDate(-5, 0, 0), NotAfter: time.Now().AddDate(15, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	return x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
}

package export

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// systems is what a machine's roots may look like: its bundle and a directory beside it.
var systems = map[string]func(w *world) (bundle, dir []byte){
	"bundle and directory": func(w *world) ([]byte, []byte) { return pemOf(w.bundled), pemOf(w.listed) },
	"the same in both":     func(w *world) ([]byte, []byte) { return pemOf(w.bundled), pemOf(w.bundled) },
	"directory only":       func(w *world) ([]byte, []byte) { return nil, pemOf(slices.Concat(w.bundled, w.listed)) },
	"nothing":              func(*world) ([]byte, []byte) { return nil, nil },
	"CRLF":                 func(w *world) ([]byte, []byte) { return crlf(pemOf(w.bundled)), pemOf(w.listed) },
	"damaged":              func(w *world) ([]byte, []byte) { return damaged(w), pemOf(w.listed) },
}

func crlf(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")) }

// damaged is a bundle of which parts cannot be read, and parts are read with an effort.
func damaged(w *world) []byte {
	var b []byte
	for i := range w.bundled {
		one := pemOf(w.bundled[i : i+1])
		switch i % 8 {
		case 0:
			one = bytes.Replace(one, []byte(pemBegin), []byte(pemBegin+"\nProc-Type: 4,ENCRYPTED\n"), 1)
		case 1:
			one = bytes.ReplaceAll(one, []byte("CERTIFICATE"), []byte("TRUSTED CERTIFICATE"))
		case 2:
			one = one[:len(one)/2]
		case 3:
			one = bytes.Replace(one, []byte(pemBegin), []byte("x "+pemBegin), 1)
		case 4:
			one = bytes.Replace(one, []byte(pemEnd), []byte(pemEnd+" x"), 1)
		case 5:
			one = bytes.ReplaceAll(one, []byte("MII"), []byte("  MI\tI"))
		}
		b = append(b, one...)
	}
	return b
}

// TestRootsAgreeWithX509 compares the verdicts on many chains with those of x509 with all of the system's roots. x509
// reads these once in a process, so each system has a process of its own.
func TestRootsAgreeWithX509(t *testing.T) {
	name := os.Getenv("ROOTS_TEST_SYSTEM")
	if name != "" {
		compareVerdicts(t, systems[name])
		return
	}
	for name := range systems {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			cmd := exec.Command(os.Args[0], "-test.run", "^TestRootsAgreeWithX509$", "-test.v")
			cmd.Env = append(os.Environ(), "ROOTS_TEST_SYSTEM="+name,
				"SSL_CERT_FILE="+filepath.Join(dir, "bundle.pem"), "SSL_CERT_DIR="+filepath.Join(dir, "certs")+":"+filepath.Join(dir, "none"))
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "compared") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// compareVerdicts runs in a process whose SSL_CERT_FILE and SSL_CERT_DIR name files that it makes.
func compareVerdicts(t *testing.T, system func(*world) (bundle, dir []byte)) {
	w := newWorld(t, 200)
	bundle, listed := system(w)
	file, dirs := os.Getenv("SSL_CERT_FILE"), filepath.SplitList(os.Getenv("SSL_CERT_DIR"))
	if bundle != nil {
		mustWrite(t, file, bundle)
	}
	if listed != nil {
		mustWrite(t, filepath.Join(dirs[0], "a.pem"), listed)
	}
	roots := &Roots{File: file}
	good, bad := 0, map[string]int{}
	for i := range 300 {
		c := w.chain()
		opts := x509.VerifyOptions{DNSName: testHost, Intermediates: x509.NewCertPool()}
		for _, cert := range c.sent[1:] {
			opts.Intermediates.AddCert(cert)
		}
		_, wantErr := c.sent[0].Verify(opts)
		_, err := roots.chains(c.sent, opts)
		if text(err) != text(wantErr) {
			t.Fatalf("chain%s: error %v; x509's: %v", c.what, err, wantErr)
		}
		if bad[fmt.Sprintf("%T", err)]++; err == nil {
			good++
		}
		if i%20 > 0 {
			continue
		}
		_, wantErr = handshake(c, &tls.Config{ServerName: testHost})
		if _, err = handshake(c, clientTLS(nil, testHost, overHTTP1, roots)); text(err) != text(wantErr) {
			t.Fatalf("chain%s: the handshake ends with %v, crypto/tls's own with %v", c.what, err, wantErr)
		}
	}
	t.Logf("compared: %d good, %v", good, bad)
	if listed != nil && (good < 20 || len(bad) < 4) {
		t.Error("the chains are not of all kinds")
	}
}

// text is what an error says, but for the time of day.
func text(err error) string { return clock.ReplaceAllString(fmt.Sprint(err), "") }

var clock = regexp.MustCompile(`current time \S+`)

func mustWrite(t testing.TB, file string, b []byte) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, b, 0o644)); err != nil {
		t.Fatal(err)
	}
}

// handshake connects a client to a server with the chain, and exchanges a byte, which brings a session along.
func handshake(c chain, client *tls.Config) (tls.ConnectionState, error) {
	return shake(c.server(), client)
}

func shake(server, client *tls.Config) (tls.ConnectionState, error) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	served := make(chan struct{})
	go func() {
		defer close(served)
		defer theirs.Close()
		s := tls.Server(theirs, server)
		if s.Handshake() == nil {
			s.Write([]byte{1})
		}
	}()
	conn := tls.Client(newAhead(ours), client)
	err := conn.Handshake()
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
	}
	ours.Close()
	<-served
	close(conn.NetConn().(*ahead).writes)
	return conn.ConnectionState(), err
}

// ahead is one end of a pipe whose writes wait for nobody: a client that does not like what it has read so far
// says so while its server is still writing.
type ahead struct {
	net.Conn
	writes chan []byte
}

func newAhead(c net.Conn) *ahead {
	a := &ahead{c, make(chan []byte, 100)}
	go func() {
		for b := range a.writes {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}()
	return a
}

func (a *ahead) Write(b []byte) (int, error) {
	a.writes <- bytes.Clone(b)
	return len(b), nil
}

// A chain under a bundled root is proven by a handful of roots, whatever the bundle's size.
func TestRootsParseFew(t *testing.T) {
	w := newWorld(t, 500)
	roots := &Roots{File: filepath.Join(t.TempDir(), "bundle.pem")}
	mustWrite(t, roots.File, pemOf(w.bundled))
	for _, i := range []int{0, 1, 209, 499} {
		between := w.issue(authorityTemplate("Between"), &w.bundled[i])
		leaf := w.issue(serverTemplate(), &between)
		c := chain{sent: []*x509.Certificate{leaf.cert, between.cert}, key: leaf.key}
		conf := clientTLS(nil, testHost, overHTTP1, roots)
		if _, err := handshake(c, conf); err != nil {
			t.Fatalf("root %d: %v", i, err)
		}
	}
	if n := len(roots.pool.Subjects()); n != 4 { //nolint:staticcheck // it is not the system's pool
		t.Errorf("%d roots were parsed for 4 chains, want 4", n)
	}
}

// FuzzRootsBundle: whatever a bundle looks like, nothing is trusted that x509 would not read from it.
func FuzzRootsBundle(f *testing.F) {
	w := newWorld(f, 10)
	var sent []*x509.Certificate
	for i := range w.bundled {
		leaf := w.issue(serverTemplate(), &w.bundled[i])
		sent = append(sent, leaf.cert)
	}
	f.Add(pemOf(w.bundled[:2]))
	f.Add(crlf(pemOf(w.bundled[2:4])))
	f.Add(damaged(w))
	f.Fuzz(func(t *testing.T, bundle []byte) {
		all := x509.NewCertPool()
		all.AppendCertsFromPEM(bundle)
		roots := &Roots{pool: all.Clone()}
		roots.chooseLocked(sent, bundle)
		if !roots.pool.Equal(all) {
			t.Errorf("a certificate was chosen that x509 does not read")
		}
	})
}

// x509 reads the first bundle that there is: ours must be the same one.
func TestBundlesAreThoseOfX509(t *testing.T) {
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(goroot)), "src/crypto/x509/root_linux.go"))
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(source), "var certFiles = []string{")
	list, _, _ = strings.Cut(list, "\n}")
	var want []string
	for _, m := range regexp.MustCompile(`"(/[^"]+)"`).FindAllStringSubmatch(list, -1) {
		want = append(want, m[1])
	}
	if !slices.Equal(bundles[:], want) {
		t.Errorf("bundles are %q, x509 looks for %q", bundles, want)
	}
}

// A resumed session is worth what the server's certificate is worth by then.
func TestRootsResumption(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 20)
			roots := &Roots{File: filepath.Join(t.TempDir(), "bundle.pem")}
			mustWrite(t, roots.File, pemOf(w.bundled))
			server := func(hours int) *tls.Config {
				c := serverTemplate()
				c.NotAfter = time.Now().Add(time.Duration(hours) * time.Hour)
				leaf := w.issue(c, &w.bundled[0])
				conf := chain{sent: []*x509.Certificate{leaf.cert}, key: leaf.key}.server()
				conf.MaxVersion = version
				conf.SetSessionTicketKeys([][32]byte{{1}}) // what one server gives out all others take
				return conf
			}
			client := clientTLS(nil, testHost, overHTTP1, roots)
			expect := func(server *tls.Config, resumed bool, want string) {
				t.Helper()
				s, err := shake(server, client)
				if want == "" && err != nil || !strings.Contains(text(err), want) || s.DidResume != resumed {
					t.Errorf("TLS %x: resumed %v, error %v; want %v, %q", version, s.DidResume, err, resumed, want)
				}
			}
			short, long := server(2), server(20)
			expect(short, false, "")
			expect(short, true, "")
			expect(long, true, "") // the session is the first server's
			time.Sleep(3 * time.Hour)
			expect(short, false, "expired")
			expect(long, false, "") // a full handshake, not a session that has outlived its certificate
			expect(long, true, "")
			time.Sleep(18 * time.Hour)
			expect(long, false, "expired")
		})
	}
}

// What another certificate's chains were is no proof for a session's own.
func TestRootsResumeAnotherLeaf(t *testing.T) {
	w := newWorld(t, 20)
	roots := &Roots{File: filepath.Join(t.TempDir(), "bundle.pem")}
	mustWrite(t, roots.File, pemOf(w.bundled))
	kept := &session{}
	state := func(leaf entity, resumed bool) tls.ConnectionState {
		return tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf.cert}, DidResume: resumed}
	}
	trusted, stranger := w.issue(serverTemplate(), &w.bundled[0]), w.issue(serverTemplate(), &w.distrusted[0])
	if err := roots.verify(state(trusted, false), testHost, kept); err != nil {
		t.Fatal(err)
	}
	if err := roots.verify(state(trusted, true), testHost, kept); err != nil {
		t.Errorf("a session of the server that was verified: %v", err)
	}
	if err := roots.verify(state(trusted, true), "otlp.example.org", kept); err == nil {
		t.Error("a session passes for another host's")
	}
	if err := roots.verify(state(stranger, true), testHost, kept); err == nil {
		t.Error("a session with a certificate that was never verified passes")
	}
}

// The sink as a user has it: a bundle of hundreds, a server under one of them.
func TestHTTPBySystemRoots(t *testing.T) {
	w := newWorld(t, 300)
	roots := &Roots{File: filepath.Join(t.TempDir(), "bundle.pem")}
	mustWrite(t, roots.File, pemOf(w.bundled))
	serve := func(by entity, name string) string {
		c := serverTemplate()
		c.DNSNames, c.IPAddresses = []string{name}, []net.IP{net.IPv4(127, 0, 0, 1)}
		leaf := w.issue(c, &by)
		return newTLSBackend(t, chain{sent: []*x509.Certificate{leaf.cert}, key: leaf.key}.server()).URL
	}
	send := func(url string) error {
		dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
			_, port, _ := net.SplitHostPort(addr)
			return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
		}
		return newHTTP(t, HTTPConfig{URL: mustURL(t, url), Roots: roots, Timeout: time.Minute, Dial: dial}).Send(t.Context(), payload(10))
	}
	good := serve(w.bundled[200], "localhost")
	for _, url := range []string{good, strings.Replace(good, "127.0.0.1", "localhost", 1)} {
		if err := send(url); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	if err := send(strings.Replace(good, "127.0.0.1", "otlp.example.org", 1)); !strings.Contains(text(err), "another host's") {
		t.Errorf("a certificate for another host: %v", err)
	}
	if err := send(serve(w.distrusted[0], "localhost")); !strings.Contains(text(err), "OTLP_RELAY_CERTIFICATE") {
		t.Errorf("an unknown authority: %v", err)
	}
}

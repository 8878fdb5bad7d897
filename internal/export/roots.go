package export

import (
	"bytes"
	"crypto/fips140"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"os"
	"slices"
	"sync"
	"time"
)

// Roots verifies servers by the system's root certificates, and parses only those of them that a server's chain
// can lead to: parsing all, as crypto/tls does at the first handshake, takes 4 to 14 ms of CPU and up to 4.5 MB.
//
// It trusts what crypto/tls would trust, no more and no less. A chain leads to a root by the root's name alone (RFC 5280,
// §6.1.3; x509.CertPool looks no further), so a pool with all roots of the right names gives the verdict of the whole one.
// And what these do not prove is judged again by x509 with everything that the system has.
//
// The zero value is ready, and safe for concurrent use; clients share one.
type Roots struct {
	// File is the value of SSL_CERT_FILE, which x509 reads too: the bundle to take the roots from. Empty
	// means the system's own.
	File string

	mu   sync.Mutex
	pool *x509.CertPool // the roots that chains have needed so far; guarded by mu
}

// bundles is where systems have their roots, in one file: those of x509, in its order. x509 reads the first that it can
// read, and all files of two directories, which only what is not found here needs.
var bundles = [...]string{
	"/etc/ssl/certs/ca-certificates.crt", // Debian
	"/etc/pki/tls/certs/ca-bundle.crt",   // Amazon Linux
	"/etc/ssl/ca-bundle.pem",
	"/etc/pki/tls/cacert.pem",
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
	"/etc/ssl/cert.pem", // Alpine
}

// use makes conf verify servers by r instead of by crypto/tls itself. conf trusts the system's roots, has a
// ServerName, and is for that one host.
func (r *Roots) use(conf *tls.Config) {
	if fips140.Enabled() {
		return // crypto/tls then looks for more than is known here
	}
	host, kept := conf.ServerName, &session{}
	conf.ClientSessionCache = kept
	conf.InsecureSkipVerify = true // VerifyConnection is called all the same, for resumed sessions too
	conf.VerifyConnection = func(s tls.ConnectionState) error {
		err := r.verify(s, host, kept)
		if err != nil {
			kept.Put("", nil)
			return &tls.CertificateVerificationError{UnverifiedCertificates: s.PeerCertificates, Err: err}
		}
		return nil
	}
}

// verify is crypto/tls's verification of a server: of its chain, or, where a session is resumed, of what may
// have changed since that was verified.
func (r *Roots) verify(s tls.ConnectionState, host string, kept *session) error {
	sent := s.PeerCertificates
	if s.DidResume && kept.vouchesFor(sent[0]) {
		return sent[0].VerifyHostname(host)
	}
	opts := x509.VerifyOptions{DNSName: host, Intermediates: x509.NewCertPool()}
	for _, cert := range sent[1:] {
		opts.Intermediates.AddCert(cert)
	}
	chains, err := r.chains(sent, opts)
	if err == nil {
		kept.vouch(chains)
	}
	return err
}

// chains is what x509.Certificate.Verify says of the first certificate of sent.
func (r *Roots) chains(sent []*x509.Certificate, opts x509.VerifyOptions) ([][]*x509.Certificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if opts.Roots = r.pool; opts.Roots != nil {
		if chains, err := sent[0].Verify(opts); err == nil {
			return chains, nil
		}
	}
	r.chooseLocked(sent, r.bundle())
	opts.Roots = r.pool
	if chains, err := sent[0].Verify(opts); err == nil {
		return chains, nil
	}
	opts.Roots = nil // all that the system has
	return sent[0].Verify(opts)
}

const (
	pemBegin = "-----BEGIN CERTIFICATE-----"
	pemEnd   = "\n-----END CERTIFICATE-----"

	// headText is how much of a certificate's text is searched for a name; a root's names stand in the first 600 of its
	// bytes.
	headText = 1024
)

// chooseLocked adds those of the bundle's roots to the pool that bear a name which sent asks for. x509 judges all that
// is passed on to it: this decides nothing but what need not be parsed.
func (r *Roots) chooseLocked(sent []*x509.Certificate, bundle []byte) {
	if r.pool == nil {
		r.pool = x509.NewCertPool()
	}
	names := [][]byte{ending(sent[0].RawSubject)} // for a server whose own certificate is in the bundle
	for _, cert := range sent {
		names = append(names, ending(cert.RawIssuer))
	}
	for rest := bundle; ; {
		before, text, found := bytes.Cut(rest, []byte(pemBegin))
		length := bytes.Index(text, []byte(pemEnd))
		if !found || length < 0 {
			return
		}
		line, _, _ := bytes.Cut(text[length+len(pemEnd):], []byte("\n"))
		end := len(before) + len(pemBegin) + length + len(pemEnd) + len(line)
		if bears(text[:length], names) && (len(before) == 0 || before[len(before)-1] == '\n') {
			r.pool.AppendCertsFromPEM(rest[len(before):end])
		}
		rest = rest[end:]
	}
}

// ending is what is searched for of a name: its last part tells names apart, and longer texts are found slowly.
func ending(name []byte) []byte { return name[max(0, len(name)-48):] }

// bears says whether one of the names stands near the beginning of a certificate, given as base64.
func bears(text []byte, names [][]byte) bool {
	var head [headText]byte
	n, _ := base64.StdEncoding.Decode(head[:], text[:min(len(text), headText)]) // as far as it goes
	return slices.ContainsFunc(names, func(name []byte) bool { return bytes.Contains(head[:n], name) })
}

// bundle is the text of the bundle; nil where there is none.
func (r *Roots) bundle() []byte {
	if r.File != "" {
		text, _ := os.ReadFile(r.File)
		return text
	}
	for _, name := range bundles {
		if text, err := os.ReadFile(name); err == nil {
			return text
		}
	}
	return nil
}

// session keeps the newest TLS session with one host, and the chains of the last connection that was verified
// in full. It gives the session out as long as one of these is valid: crypto/tls looks at that only where it
// verifies by itself.
type session struct {
	mu     sync.Mutex // guards all below
	state  *tls.ClientSessionState
	chains [][]*x509.Certificate
}

// vouch keeps chains, of which there is at least one.
func (s *session) vouch(chains [][]*x509.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.chains = chains
}

// vouchesFor says whether leaf is the certificate that the chains were verified for, and one is still valid.
func (s *session) vouchesFor(leaf *x509.Certificate) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.validLocked() && leaf.Equal(s.chains[0][0])
}

func (s *session) validLocked() bool {
	now := time.Now()
	return slices.ContainsFunc(s.chains, func(chain []*x509.Certificate) bool {
		return !slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return now.Before(c.NotBefore) || now.After(c.NotAfter) })
	})
}

// Get is the session; the key is the host's, of which there is one.
func (s *session) Get(string) (*tls.ClientSessionState, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.validLocked() {
		return nil, false
	}
	return s.state, s.state != nil
}

// Put replaces the session; nil removes it.
func (s *session) Put(_ string, state *tls.ClientSessionState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = state
}

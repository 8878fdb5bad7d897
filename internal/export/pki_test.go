package export

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"testing"
	"time"
)

const testHost = "otlp.example.com"

// entity is a certificate with its key.
type entity struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// world is a made-up public key infrastructure: what a bundle holds, what lies in a directory beside it, and
// what nobody trusts.
type world struct {
	t                           testing.TB
	random                      *mathrand.Rand
	serial                      int64
	bundled, listed, distrusted []entity
}

// newWorld makes n bundled roots, some of which bear the name of another or are of a kind that proves nothing.
func newWorld(t testing.TB, n int) *world {
	w := &world{t: t, random: mathrand.New(mathrand.NewPCG(4317, uint64(n)))}
	for i := range n {
		c := authorityTemplate(fmt.Sprintf("Root %d", i))
		switch i % 10 {
		case 3:
			c.Subject = w.bundled[i-1].cert.Subject // a new key under the old name
		case 4:
			c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"example.com"}, true
		case 5:
			c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"example.org"}, true
		case 6:
			c.NotAfter = time.Now().Add(-time.Hour)
		case 7:
			c.MaxPathLen, c.MaxPathLenZero = 0, true
		case 8:
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		case 9:
			c.Subject.Organization = []string{"Größe & Söhne, Inc.", "a long name that takes the subject out of the ordinary: " + string(bytes.Repeat([]byte("x"), 60))}
		}
		w.bundled = append(w.bundled, w.issue(c, nil))
	}
	for i := range 5 {
		w.listed = append(w.listed, w.issue(authorityTemplate(fmt.Sprintf("Listed %d", i)), nil))
		c := authorityTemplate(fmt.Sprintf("Stranger %d", i))
		if i > 2 {
			c.Subject = w.bundled[i].cert.Subject // an impostor
		}
		w.distrusted = append(w.distrusted, w.issue(c, nil))
	}
	return w
}

func authorityTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name, Country: []string{"DE"}}, IsCA: true, BasicConstraintsValid: true, MaxPathLen: -1,
		KeyUsage: x509.KeyUsageCertSign,
	}
}

func serverTemplate() *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: "a server"}, DNSNames: []string{testHost},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
}

// issue makes a certificate signed by parent; by itself for nil.
func (w *world) issue(c *x509.Certificate, parent *entity) entity {
	w.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.sign(c, parent, key)
}

// sign is issue for a given key.
func (w *world) sign(c *x509.Certificate, parent *entity, key *ecdsa.PrivateKey) entity {
	w.t.Helper()
	w.serial++
	c.SerialNumber = big.NewInt(w.serial)
	if c.NotBefore.IsZero() {
		c.NotBefore = time.Now().Add(-24 * time.Hour)
	}
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(24 * time.Hour)
	}
	by, signer := c, key
	if parent != nil {
		by, signer = parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, &key.PublicKey, signer)
	if err != nil {
		w.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		w.t.Fatal(err)
	}
	return entity{cert, key}
}

// chain is what a server sends, leaf first, with the leaf's key.
type chain struct {
	sent []*x509.Certificate
	key  *ecdsa.PrivateKey
	what string // how it was made
}

func (c *chain) note(format string, args ...any) { c.what += fmt.Sprintf(" "+format, args...) }

// chain makes a random chain: most are sound, the others are wrong in one way or several.
func (w *world) chain() chain {
	var c chain
	r := w.random
	odds := func(one int) bool { return r.IntN(one) == 0 }
	pick := func(from []entity) entity { return from[r.IntN(len(from))] }
	var by entity
	switch {
	case odds(8):
		by = pick(w.distrusted)
	case odds(8):
		by = pick(w.listed)
	default:
		by = pick(w.bundled)
	}
	c.note("under %q", by.cert.Subject.CommonName)
	root := by
	var between []entity
	for depth := range r.IntN(4) {
		t := authorityTemplate(fmt.Sprintf("Between %d %d", w.serial, depth))
		if odds(12) {
			c.note("intermediate %d expired", depth)
			t.NotAfter = time.Now().Add(-time.Minute)
		}
		if odds(16) {
			c.note("intermediate %d no authority", depth)
			t.IsCA, t.MaxPathLen = false, 0
		}
		if odds(16) {
			c.note("intermediate %d for example.org only", depth)
			t.PermittedDNSDomains = []string{"example.org"}
		}
		by = w.issue(t, &by)
		between = append([]entity{by}, between...)
	}
	if odds(10) && len(between) == 0 {
		c.note("itself the root")
		c.sent, c.key = []*x509.Certificate{root.cert}, root.key
		return c
	}
	if odds(8) { // another root vouches for this one too
		other := pick(w.bundled)
		t := authorityTemplate("")
		t.Subject = root.cert.Subject
		c.note("cross-signed by %q", other.cert.Subject.CommonName)
		between = append(between, w.sign(t, &other, root.key))
	}
	leaf := w.leaf(&c, by)
	c.key, c.sent = leaf.key, []*x509.Certificate{leaf.cert}
	for _, e := range between {
		c.sent = append(c.sent, e.cert)
	}
	w.disturb(&c, root)
	return c
}

func (w *world) leaf(c *chain, by entity) entity {
	t := serverTemplate()
	switch w.random.IntN(16) {
	case 0:
		c.note("expired")
		t.NotAfter = time.Now().Add(-time.Minute)
	case 1:
		c.note("not valid yet")
		t.NotBefore = time.Now().Add(time.Hour)
	case 2:
		c.note("another host's")
		t.DNSNames = []string{"otlp.example.org"}
	case 3:
		c.note("for clients")
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	case 4:
		c.note("wildcard")
		t.DNSNames = []string{"*.example.com"}
	case 5:
		c.note("signed with another key")
		by.key = w.distrusted[0].key
		return w.forge(t, by)
	}
	return w.issue(t, &by)
}

// forge makes a certificate whose signature is not by's.
func (w *world) forge(c *x509.Certificate, by entity) entity {
	as := *by.cert
	as.PublicKey = &by.key.PublicKey // or CreateCertificate refuses
	return w.issue(c, &entity{&as, by.key})
}

// disturb changes what a server sends beside its own certificate.
func (w *world) disturb(c *chain, root entity) {
	rest := c.sent[1:]
	switch w.random.IntN(8) {
	case 0:
		c.note("with its root")
		c.sent = append(c.sent, root.cert)
	case 1:
		c.note("out of order")
		w.random.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	case 2:
		c.note("cut short")
		c.sent = c.sent[:1+w.random.IntN(len(c.sent))]
	case 3:
		c.note("with another's")
		c.sent = append(c.sent, w.bundled[w.random.IntN(len(w.bundled))].cert)
	}
}

// server is a TLS configuration that sends the chain.
func (c chain) server() *tls.Config {
	pair := tls.Certificate{PrivateKey: c.key}
	for _, cert := range c.sent {
		pair.Certificate = append(pair.Certificate, cert.Raw)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}}
}

// pemOf is certificates as a bundle has them, each under a comment.
func pemOf(all []entity) []byte {
	var b bytes.Buffer
	for _, e := range all {
		fmt.Fprintf(&b, "\n# %s\n", e.cert.Subject)
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: e.cert.Raw})
	}
	return b.Bytes()
}

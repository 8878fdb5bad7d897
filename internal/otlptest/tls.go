package otlptest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"time"
)

// pki is a certificate authority of one backend's own, with a certificate for the backend and one for its clients.
type pki struct {
	roots                   *x509.CertPool
	server                  tls.Certificate
	caPEM                   []byte
	clientPEM, clientKeyPEM []byte
}

func newPKI() (*pki, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca := template("otlptest CA")
	ca.IsCA, ca.BasicConstraintsValid = true, true
	ca.KeyUsage = x509.KeyUsageCertSign
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return nil, err
	}
	p := &pki{roots: x509.NewCertPool(), caPEM: pemBlock("CERTIFICATE", caDER)}
	p.roots.AppendCertsFromPEM(p.caPEM)

	server := template("otlptest backend")
	server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	server.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	server.DNSNames = []string{"localhost"}
	cert, key, err := issue(server, ca, caKey)
	if err != nil {
		return nil, err
	}
	if p.server, err = tls.X509KeyPair(cert, key); err != nil {
		return nil, err
	}
	client := template("otlptest client")
	client.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	p.clientPEM, p.clientKeyPEM, err = issue(client, ca, caKey)
	return p, err
}

func (p *pki) serverConfig(clientCert bool) *tls.Config {
	c := &tls.Config{Certificates: []tls.Certificate{p.server}}
	if clientCert {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, p.roots
	}
	return c
}

// template is valid from long ago: a test's clock may stand anywhere near now.
func template(name string) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.AddDate(-40, 0, 0),
		NotAfter:     now.AddDate(40, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}

func issue(c, ca *x509.Certificate, caKey *ecdsa.PrivateKey) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, c, ca, &key.PublicKey, caKey)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return pemBlock("CERTIFICATE", der), pemBlock("PRIVATE KEY", keyDER), nil
}

func pemBlock(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

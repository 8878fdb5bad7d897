package export

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
)

// LoadTLS reads what TLS needs from PEM files: the authorities to trust instead of the system's, and a client
// certificate with its key. An empty name means none; with none at all the result is nil, the system's
// defaults. Errors name the file and the variable that named it.
func LoadTLS(caFile, certFile, keyFile string) (*tls.Config, error) {
	if caFile == "" && certFile == "" && keyFile == "" {
		return nil, nil
	}
	for _, v := range []struct{ variable, file string }{
		{"OTLP_RELAY_CERTIFICATE", caFile}, {"OTLP_RELAY_CLIENT_CERTIFICATE", certFile}, {"OTLP_RELAY_CLIENT_KEY", keyFile},
	} {
		if strings.ContainsAny(v.file, "\n\r") || strings.Contains(v.file, "-----BEGIN") {
			// Named, never repeated: it may be the key.
			return nil, fmt.Errorf("%s holds PEM text: put that into a file of the function or a layer, and set the variable to the file's name", v.variable)
		}
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("OTLP_RELAY_CERTIFICATE: read the authorities: %w; name %s", err, pemFile)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("OTLP_RELAY_CERTIFICATE: %s holds no PEM certificate; name %s", caFile, pemFile)
		}
	}
	switch {
	case certFile == "" && keyFile == "":
		return conf, nil
	case keyFile == "":
		return nil, errors.New("client certificate without a key: set OTLP_RELAY_CLIENT_KEY to its key's file")
	case certFile == "":
		return nil, errors.New("client key without a certificate: set OTLP_RELAY_CLIENT_CERTIFICATE to its certificate's file")
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("OTLP_RELAY_CLIENT_CERTIFICATE and OTLP_RELAY_CLIENT_KEY: load the pair %s and %s: %w; for each name "+pemFile, certFile, keyFile, err)
	}
	conf.Certificates = []tls.Certificate{pair}
	return conf, nil
}

// pemFile is what a setting has to name.
const pemFile = "a PEM file in the function's package (/var/task/…) or a layer (/opt/…)"

// clientTLS is base, or the default for nil, made ready for connections to host, a name or an address. protocol is its
// name in ALPN. Where base names no authorities of its own, roots knows the system's; with nil crypto/tls loads them.
func clientTLS(base *tls.Config, host, protocol string, roots *Roots) *tls.Config {
	conf := base.Clone() // nil of nil
	if conf == nil {
		conf = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if conf.ServerName == "" {
		conf.ServerName = host
	}
	conf.NextProtos = []string{protocol}
	conf.DynamicRecordSizingDisabled = true // a request is one record and one write, not one per packet
	conf.ClientSessionCache = tls.NewLRUClientSessionCache(2)
	if conf.RootCAs == nil && roots != nil {
		roots.use(conf)
	}
	return conf
}

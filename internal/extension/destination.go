package extension

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// Destination is where one signal goes.
type Destination struct {
	URL         *url.URL // whole, with the signal's path; nil where Err says why there is none
	Header      http.Header
	Compression otlp.Compression
	Timeout     time.Duration // of one attempt; 0: none of its own
	Certificate string        // PEM file of the authorities to trust; empty: the system's
	ClientCert  string        // PEM file
	ClientKey   string        // PEM file
	Err         error         // a mistake that leaves the signal without a destination
}

// errNoEndpoint is what a signal without any destination carries.
var errNoEndpoint = errors.New("no backend is configured: set OTLP_RELAY_ENDPOINT to its OTLP endpoint, such as https://otlp.example.com")

// lookup finds a destination's settings: OTLP_RELAY_TRACES_X, then OTLP_RELAY_X, and, unless an endpoint of
// ours is set, the same of OTEL_EXPORTER_OTLP_. One vendor's key must never reach another: where ours and the
// standard variables name different backends for different signals, each backend gets the keys of its own family.
type lookup struct {
	e        *environment
	signal   string // in upper case
	standard bool   // the endpoint is of OTEL_EXPORTER_OTLP_*
}

func (l lookup) get(name string) (value, variable string) {
	prefixes := []string{prefix, standardPrefix}
	switch {
	case !l.standard:
		prefixes = prefixes[:1]
	case slices.Contains(keys, name) && l.e.ownEndpoint():
		prefixes = prefixes[1:]
	}
	for _, p := range prefixes {
		for _, variable := range []string{p + l.signal + "_" + name, p + name} {
			if v := l.e.vars[variable]; v != "" {
				return v, variable
			}
		}
	}
	return "", ""
}

const standardPrefix = "OTEL_EXPORTER_OTLP_"

// keys are the settings that let somebody in.
var keys = []string{"HEADERS", "CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"}

// ownEndpoint says whether an endpoint of ours is set, for any signal.
func (e *environment) ownEndpoint() bool {
	for k, v := range e.vars {
		if v != "" && strings.HasPrefix(k, prefix) && strings.HasSuffix(k, "ENDPOINT") {
			return true
		}
	}
	return false
}

// destination reads where a signal goes. ownAddr is the address of the extension's own receiver.
func (e *environment) destination(sig otlp.Signal, ownAddr string) Destination {
	l := lookup{e: e, signal: strings.ToUpper(sig.String())}
	endpoint, variable := l.get("ENDPOINT")
	if endpoint == "" {
		l.standard = true
		endpoint, variable = l.get("ENDPOINT")
	}
	if endpoint == "" {
		return Destination{Err: errNoEndpoint}
	}
	u, err := parseEndpoint(endpoint, variable, sig)
	switch {
	case isSecret(endpoint):
		return Destination{Err: secretError(variable)}
	case err != nil:
		return Destination{Err: err}
	case e.pointsHere(u, ownAddr) && l.standard:
		return Destination{Err: errNoEndpoint} // it tells the function's SDK where we are
	case e.pointsHere(u, ownAddr):
		return Destination{Err: fmt.Errorf("%s points at this extension itself: set it to the backend's endpoint", variable)}
	}
	if err := e.unsupported(l); err != nil {
		return Destination{Err: err}
	}
	d := Destination{URL: u, Timeout: e.timeout(l), Header: e.headers(l), Compression: e.compression(l)}
	d.Certificate, _ = l.get("CERTIFICATE")
	d.ClientCert, _ = l.get("CLIENT_CERTIFICATE")
	d.ClientKey, _ = l.get("CLIENT_KEY")
	return d
}

// parseEndpoint makes the signal's URL as the OTLP exporter specification does: a base URL gets the signal's
// path, a signal's own URL is used as it is. Errors hold the variable's name, never its value's secrets.
func parseEndpoint(endpoint, variable string, sig otlp.Signal) (*url.URL, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		// url.Error repeats the input, which may hold a password.
		return nil, fmt.Errorf("%s is not a URL: write it as https://host[:port][/path]", variable)
	}
	switch strings.ToLower(u.Scheme) {
	case "http", "https":
	case "grpc", "grpcs", "stdout", "sqs+http", "sqs+https", "kinesis+https":
		return nil, fmt.Errorf("%s: %s is not supported by this version: use an OTLP/HTTP endpoint, https://…", variable, u.Scheme)
	default:
		return nil, fmt.Errorf("%s must begin with https:// or http://", variable)
	}
	if u.Hostname() == "" {
		return nil, fmt.Errorf("%s has no host: write it as https://host[:port][/path]", variable)
	}
	own := strings.HasSuffix(variable, strings.ToUpper(sig.String())+"_ENDPOINT")
	if u.Path == "" {
		u.Path = "/"
	}
	if !own {
		// Append only: what stands before is the user's, as it is spelled.
		if u.RawPath != "" {
			u.RawPath = strings.TrimSuffix(u.RawPath, "/") + sig.Path()
		}
		u.Path = strings.TrimSuffix(u.Path, "/") + sig.Path()
	}
	u.Fragment = ""
	return u, nil
}

// pointsHere says whether a URL leads to a listener of the extension itself: httpAddr, the gRPC receiver's
// address, or the Telemetry API listener, which answers 200 to anything.
func (e *environment) pointsHere(u *url.URL, httpAddr string) bool {
	grpcAddr := e.vars[prefix+"GRPC_ADDR"]
	if grpcAddr == "" {
		grpcAddr = "127.0.0.1:4317"
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[strings.ToLower(u.Scheme)]
	}
	host, _, _ := strings.Cut(strings.TrimSuffix(strings.ToLower(u.Hostname()), "."), "%") // without a zone
	ip := net.ParseIP(host)
	if host != "localhost" && host != "sandbox.localdomain" && host != "sandbox" && (ip == nil || !ip.IsLoopback() && !ip.IsUnspecified()) {
		return false
	}
	for _, addr := range []string{httpAddr, grpcAddr, "127.0.0.1:4319"} {
		if _, own, err := net.SplitHostPort(addr); err == nil && own == port {
			return true
		}
	}
	return false
}

func (e *environment) timeout(l lookup) time.Duration {
	_, variable := l.get("TIMEOUT")
	d := e.duration(variable, defaultTimeout)
	if strings.HasPrefix(variable, standardPrefix) && d > 0 && d < 100*time.Millisecond {
		e.warn("%s is taken as milliseconds, as the specification has it, so that an attempt ends after %v; "+
			"where your SDK reads it as seconds, set OTLP_RELAY_TIMEOUT for the extension", variable, d)
	}
	return d
}

// headers reads a list in the form of W3C Baggage: k1=v1,k2=v2, values percent-encoded.
func (e *environment) headers(l lookup) http.Header {
	value, variable := l.get("HEADERS")
	h := http.Header{}
	for i, pair := range strings.Split(value, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		k, v, ok := strings.Cut(pair, "=")
		k = strings.TrimSpace(k)
		v, err := url.PathUnescape(strings.TrimSpace(v))
		if !ok || k == "" || err != nil {
			e.warn("%s: entry %d is not name=value with a percent-encoded value: it is left out", variable, i+1)
			continue
		}
		h.Add(k, v)
	}
	return h
}

func (e *environment) compression(l lookup) otlp.Compression {
	value, variable := l.get("COMPRESSION")
	switch strings.ToLower(value) {
	case "", "gzip":
		return otlp.Gzip
	case "none":
		return otlp.None
	case "zstd":
		return otlp.Zstd
	}
	e.warn("%s=%q is not one of gzip, zstd, none: using gzip", variable, value)
	return otlp.Gzip
}

// unsupported finds what makes a destination unusable although its URL is fine.
func (e *environment) unsupported(l lookup) error {
	for _, name := range destinationSettings {
		v, variable := l.get(name)
		if isSecret(v) {
			return secretError(variable)
		}
	}
	switch v, variable := l.get("PROTOCOL"); strings.ToLower(v) {
	case "", "http/protobuf":
	case "http/json":
		e.warn("%s=http/json is not converted to: payloads leave in the encoding they came in", variable)
	case "grpc":
		return fmt.Errorf("%s=grpc is not supported by this version: use the backend's OTLP/HTTP endpoint and http/protobuf", variable)
	default:
		e.warn("%s=%q is not one of http/protobuf, http/json, grpc: using http/protobuf", variable, v)
	}
	return nil
}

// isSecret says whether a value refers to a secret that is kept elsewhere.
func isSecret(v string) bool {
	return strings.Contains(v, "${ssm:") || strings.Contains(v, "${secretsmanager:")
}

func secretError(variable string) error {
	return fmt.Errorf("%s refers to a secret, which this version does not resolve: set the value itself", variable)
}

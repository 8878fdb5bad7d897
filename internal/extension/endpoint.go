package extension

import (
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// aim finds out from an endpoint's value where d's requests go. Errors hold the variable's name, never a part of
// its value, any of which may be a secret.
func (l *lookup) aim(d *Destination, v variable, c *Config) error {
	text := v.value
	scheme, rest, _ := strings.Cut(text, ":")
	scheme = strings.ToLower(scheme)
	switch {
	case scheme == "stdout" && strings.Trim(rest, "/") == "":
		d.Protocol = Stdout
		return nil
	case strings.HasPrefix(scheme, "sqs+"), strings.HasPrefix(scheme, "kinesis+"):
		return errQueue(v)
	case strings.Contains(text, "://"):
	case d.Protocol == GRPC: // OTLP exporter specification, "Endpoint (OTLP/gRPC)" and "Insecure"
		text = l.security() + text
	default:
		return fmt.Errorf("%s has no scheme: write it as https://host[:port], or grpcs://host[:port] for OTLP/gRPC", v.name)
	}
	u, err := url.Parse(text)
	if err != nil {
		// url.Error repeats the input, which may hold a password.
		return fmt.Errorf("%s is not a URL: write it as https://host[:port][/path]", v.name)
	}
	u.Scheme = strings.ToLower(u.Scheme)
	switch u.Scheme {
	case "http", "https", "grpc", "grpcs":
	default:
		return fmt.Errorf("%s must begin with https://, http://, grpcs:// or grpc://, or be stdout:", v.name)
	}
	if err := checkHost(v, u); err != nil {
		return err
	}
	switch grpc := strings.HasPrefix(u.Scheme, "grpc"); {
	case grpc && d.Protocol == HTTP:
		l.e.warn("%s begins with %s://, which is OTLP/gRPC whatever the protocol setting says: set %sPROTOCOL to grpc, or the endpoint to https://…", v.name, u.Scheme, prefix)
		fallthrough
	case grpc, d.Protocol == GRPC:
		d.Protocol, d.URL = GRPC, l.grpcURL(v, u)
	default:
		d.Protocol, d.URL = HTTP, l.httpURL(v, u)
	}
	if pointsHere(d.URL, c.HTTPAddr, c.GRPCAddr) {
		if l.standard {
			return ErrNoEndpoint // it tells the function's SDK where we are
		}
		return fmt.Errorf("%s points at this extension itself: set it to the backend's endpoint", v.name)
	}
	return l.aws(d, v)
}

// security is the scheme of a gRPC endpoint that has none.
func (l *lookup) security() string {
	if l.e.oneOf(l.get("INSECURE"), "false", "true", "false") == "true" {
		return "grpc://"
	}
	return "grpcs://"
}

// checkHost refuses what cannot be connected to.
func checkHost(v variable, u *url.URL) error {
	switch host := u.Hostname(); {
	case host == "":
		return fmt.Errorf("%s has no host: write it as https://host[:port][/path]", v.name)
	case strings.ContainsFunc(host, func(c rune) bool { return c <= ' ' || c >= 0x7f || strings.ContainsRune(`"'<>()*,;=!&$`, c) }):
		return fmt.Errorf("%s has a character in its host that no host has: write it as https://host[:port], other alphabets in their xn-- form", v.name)
	case u.Port() != "" && !validPort(u.Port()):
		return fmt.Errorf("%s has a port that is not from 1 to 65535: write it as https://host[:port]", v.name)
	}
	return nil
}

// httpURL makes the signal's URL as the OTLP exporter specification does: a base URL gets the signal's path, a
// signal's own URL is used as it is.
func (l *lookup) httpURL(v variable, u *url.URL) *url.URL {
	u.Fragment = ""
	path := strings.TrimSuffix(u.Path, "/")
	if strings.HasSuffix(v.name, upper(l.sig)+"_ENDPOINT") {
		if path == "" {
			l.e.warn("%s is used as it is and has no path: write it with the one that the backend takes %s at, such as %s", v.name, l.sig, l.sig.Path())
			u.Path = "/"
		}
		return u
	}
	for _, sig := range otlp.Signals() {
		if strings.HasSuffix(path, sig.Path()) {
			l.e.warn("%s ends with %s, to which each signal's own path is appended: leave that out, or set %s%s_ENDPOINT", v.name, sig.Path(), prefix, upper(sig))
		}
	}
	// Append only: what stands before is the user's, as it is spelled.
	if u.RawPath != "" {
		u.RawPath = strings.TrimSuffix(u.RawPath, "/") + l.sig.Path()
	}
	u.Path = path + l.sig.Path()
	return u
}

// grpcURL is the scheme, host and port of a URL: the service's name is the path.
func (l *lookup) grpcURL(v variable, u *url.URL) *url.URL {
	if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		l.e.warn("%s has a path or query, which OTLP/gRPC has no use for: leave it out", v.name)
	}
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "https": // of a URL that says so, as SDKs have it
		port = "443"
	default:
		port = "4317" // OTLP specification, "OTLP/gRPC Default Port"
	}
	g := &url.URL{Scheme: "grpc", User: u.User, Host: net.JoinHostPort(u.Hostname(), port)}
	if strings.HasSuffix(u.Scheme, "s") {
		g.Scheme = "grpcs"
	}
	return g
}

// pointsHere says whether a URL leads to a listener of the extension itself: an OTLP receiver, or the Telemetry
// API listener, which answers 200 to anything.
func pointsHere(u *url.URL, addrs ...string) bool {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	if !loopback(u.Hostname()) {
		return false
	}
	for _, addr := range append(addrs, ":"+telemetryPort) {
		if _, own, err := net.SplitHostPort(addr); err == nil && own == port {
			return true
		}
	}
	return false
}

// check warns of what is likely to be a mistake in how d's settings go together.
func (l *lookup) check(d *Destination, endpoint variable) {
	if !d.secure() {
		for _, name := range []string{"CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"} {
			if v := l.raw(name); v.name != "" {
				l.e.warn("%s has no effect, as %s is spoken to without TLS: begin that with https:// or grpcs://", v.name, endpoint.name)
			}
		}
	} else if v := l.raw("INSECURE"); !l.standard && strings.EqualFold(v.value, "true") {
		l.e.warn("%s has no effect, as the scheme of %s asks for TLS: remove it, or begin the endpoint with http:// or grpc://", v.name, endpoint.name)
	}
	switch port := d.URL.Port(); {
	case port == "4317" && d.Protocol == HTTP:
		l.e.warn("%s has port 4317, which is usually OTLP/gRPC's: set %sPROTOCOL to grpc, or use port 4318", endpoint.name, prefix)
	case port == "4318" && d.Protocol == GRPC:
		l.e.warn("%s has port 4318, which is usually OTLP/HTTP's: set %sPROTOCOL to http/protobuf, or use port 4317", endpoint.name, prefix)
	}
}

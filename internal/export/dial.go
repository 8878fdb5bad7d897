package export

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/otlp-relay/otlp-relay/internal/tcp"
)

const (
	overHTTP1 = "http/1.1"
	overHTTP2 = "h2"
)

// A dialer opens connections to one destination, through a proxy where there is one.
type dialer struct {
	addr      string // host:port of the backend
	protocol  string // what is spoken there, by its name in ALPN
	tls       func() *tls.Config
	proxy     *proxy // nil: none
	userAgent string
	net       func(ctx context.Context, network, addr string) (net.Conn, error)
}

// proxy is an HTTP proxy: it gets absolute URIs of HTTP/1.1 for http destinations and makes a tunnel for others.
type proxy struct {
	addr string // host:port
	auth string // the value of Proxy-Authorization, or empty
	tls  func() *tls.Config
}

// newDialer checks what cfg says about connections.
func newDialer(cfg HTTPConfig) (*dialer, error) {
	d := &dialer{addr: dialAddr(cfg.URL), protocol: overHTTP1, net: cfg.Dial, userAgent: cfg.UserAgent}
	if d.net == nil {
		// No keep-alive probes: after a freeze they would find a connection dead that peek knows to be, and
		// while the sandbox is frozen nothing can be sent.
		d.net = (&net.Dialer{KeepAlive: -1}).DialContext
	}
	if cfg.URL.Scheme == "https" {
		d.tls = sync.OnceValue(func() *tls.Config { return clientTLS(cfg.TLS, cfg.URL.Hostname(), d.protocol, cfg.Roots) })
	}
	if cfg.Proxy == nil {
		return d, nil
	}
	u, err := cfg.Proxy(cfg.URL)
	switch {
	case err != nil: // it may repeat the variable's value, which may hold a password
		return nil, errors.New("proxy setting is not a URL: write HTTPS_PROXY or HTTP_PROXY as http://host:port")
	case u == nil:
		return d, nil
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("proxy scheme %q is not supported: set HTTPS_PROXY or HTTP_PROXY to an http:// or https:// proxy", u.Scheme)
	case u.Hostname() == "":
		return nil, errors.New("proxy setting has no host: write HTTPS_PROXY or HTTP_PROXY as http://host:port")
	}
	d.proxy = &proxy{addr: dialAddr(u)}
	if u.User != nil {
		d.proxy.auth = basicAuth(u.User)
	}
	if u.Scheme == "https" {
		d.proxy.tls = sync.OnceValue(func() *tls.Config {
			conf := clientTLS(cfg.TLS, u.Hostname(), overHTTP1, cfg.Roots)
			conf.Certificates, conf.GetClientCertificate = nil, nil // they are for the backend
			return conf
		})
	}
	return d, nil
}

// dial opens a connection over which requests for the destination can be written. It gives up when ctx ends.
func (d *dialer) dial(ctx context.Context) (*conn, error) {
	addr := d.addr
	if d.proxy != nil {
		addr = d.proxy.addr
	}
	raw, err := d.net(ctx, "tcp", addr)
	if err != nil {
		return nil, dialError{err}
	}
	raw = tcp.Wrap(raw)
	nc, err := d.layer(ctx, raw)
	if err != nil {
		raw.Close()
		return nil, err
	}
	return newConn(nc, raw), nil
}

// layer puts TLS to the proxy, the tunnel, and TLS to the backend over raw, as far as they are needed.
func (d *dialer) layer(ctx context.Context, raw net.Conn) (nc net.Conn, err error) {
	nc = raw
	if d.proxy != nil && d.proxy.tls != nil {
		if nc, err = startTLS(ctx, nc, d.proxy.tls()); err != nil {
			return nil, fmt.Errorf("speak TLS to the proxy: %w", err)
		}
	}
	if d.proxy != nil && (d.tls != nil || d.protocol == overHTTP2) {
		if err := d.tunnel(ctx, nc); err != nil {
			return nil, err
		}
	}
	if d.tls == nil {
		return nc, nil
	}
	return startTLS(ctx, nc, d.tls())
}

func startTLS(ctx context.Context, nc net.Conn, conf *tls.Config) (net.Conn, error) {
	c := tls.Client(nc, conf)
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// tunnel asks the proxy at the other end of nc to connect it to the backend (RFC 9110 §9.3.6).
func (d *dialer) tunnel(ctx context.Context, nc net.Conn) error {
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(longAgo) })
	defer stop()
	req := "CONNECT " + d.addr + " HTTP/1.1\r\nHost: " + d.addr + "\r\n"
	if d.userAgent != "" {
		req += "User-Agent: " + d.userAgent + "\r\n"
	}
	if d.proxy.auth != "" {
		req += "Proxy-Authorization: " + d.proxy.auth + "\r\n"
	}
	if _, err := io.WriteString(nc, req+"\r\n"); err != nil {
		return fmt.Errorf("ask the proxy for a tunnel: %w", err)
	}
	in := &noted{r: nc}
	br := bufio.NewReaderSize(io.LimitReader(in, maxHead), 1<<10)
	res, err := http.ReadResponse(br, &http.Request{Method: http.MethodConnect})
	switch {
	case in.err != nil:
		return fmt.Errorf("ask the proxy for a tunnel: %w", in.err)
	case err != nil:
		return fmt.Errorf("ask the proxy for a tunnel: %w", errNotHTTP)
	case res.StatusCode == http.StatusProxyAuthRequired:
		return errors.New("the proxy asks for credentials: set HTTPS_PROXY to http://user:password@host:port")
	case res.StatusCode/100 != 2:
		return fmt.Errorf("the proxy refuses a tunnel with HTTP %d: is it allowed to reach %s?", res.StatusCode, d.addr)
	case br.Buffered() > 0:
		return errors.New("the proxy sends data before it is spoken to")
	}
	if !stop() {
		return ctx.Err()
	}
	return nil
}

// noted is a reader that remembers its error: parsers replace it by their own.
type noted struct {
	r   io.Reader
	err error
}

func (n *noted) Read(p []byte) (int, error) {
	k, err := n.r.Read(p)
	if err != nil {
		n.err = err
	}
	return k, err
}

// dialAddr is u's host and port, the scheme's own port where it names none.
func dialAddr(u *url.URL) string {
	port := u.Port()
	switch {
	case port == "" && u.Scheme == "https":
		port = "443"
	case port == "":
		port = "80"
	}
	return net.JoinHostPort(strings.TrimSuffix(u.Hostname(), "."), port)
}

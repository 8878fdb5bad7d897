package extension

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"sync"

	"github.com/otlp-relay/otlp-relay/internal/export"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// userAgent is what the extension calls itself.
const userAgent = "otlp-relay/" + Version

// newClient is what speaks to a destination.
func (a *app) newClient(sig otlp.Signal, d *Destination) (otlp.Sink, error) {
	if d.Protocol == Stdout {
		return export.NewStdout(a.out, a.cfg.env("AWS_LAMBDA_FUNCTION_NAME")), nil
	}
	tlsConfig, err := a.pems.load(d)
	if err != nil {
		return nil, err
	}
	cfg := export.HTTPConfig{
		URL:       d.URL,
		Header:    d.Header,
		TLS:       tlsConfig,
		Roots:     &a.roots,
		Timeout:   d.Timeout,
		UserAgent: userAgent,
		Proxy:     systemProxy,
		Warn:      a.backendWarning(sig),
		Now:       a.now,
	}
	if d.Protocol == GRPC {
		u := *d.URL
		if u.Scheme = "http"; d.secure() {
			u.Scheme = "https"
		}
		cfg.URL = &u
		return export.NewGRPC(cfg)
	}
	if d.Signed {
		creds, err := a.credentials()
		if err != nil {
			return nil, fmt.Errorf("%s is AWS's: %w", d.variable, err)
		}
		cfg.Signer = export.NewSigner(creds, d.Service, d.Region, a.now)
	}
	return export.NewHTTP(cfg)
}

func systemProxy(u *url.URL) (*url.URL, error) {
	return http.ProxyFromEnvironment(&http.Request{URL: u})
}

// newCredentials are the environment's AWS credentials.
func (a *app) newCredentials() (*export.Credentials, error) {
	return export.NewCredentials(export.CredentialsConfig{Env: a.cfg.env, Now: a.now})
}

// readSecret asks the service that keeps a secret.
func (a *app) readSecret(ctx context.Context, r reference) (string, error) {
	creds, err := a.credentials()
	if err != nil {
		return "", err
	}
	secrets := export.NewSecrets(export.SecretsConfig{
		Credentials: creds,
		Env:         a.cfg.env,
		UserAgent:   userAgent,
		Roots:       &a.roots,
		Proxy:       systemProxy,
		Now:         a.now,
	})
	service, id, key, _ := r.parts()
	if service == "ssm" {
		return secrets.Parameter(ctx, id)
	}
	return secrets.Secret(ctx, id, key)
}

// pemFiles reads certificates and keys once for all destinations that name the same files: a bundle of 140
// authorities takes 8 ms of CPU, a pair up to 0.4 ms. It is safe for concurrent use.
type pemFiles struct {
	mu     sync.Mutex
	names  [3]string
	config *tls.Config // of names
}

// load is what d's files make of TLS; nil where it names none.
func (p *pemFiles) load(d *Destination) (*tls.Config, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	names := [3]string{d.Certificate, d.ClientCert, d.ClientKey}
	if names == p.names {
		return p.config, nil
	}
	config, err := export.LoadTLS(d.Certificate, d.ClientCert, d.ClientKey)
	if err == nil {
		p.names, p.config = names, config
	}
	return config, err
}

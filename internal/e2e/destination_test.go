package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// What goes to a Lambda function URL is signed with the environment's credentials, unless the user brings a way in.
func TestSignedDestination(t *testing.T) {
	const host = "abc123.lambda-url.eu-west-1.on.aws"
	for name, header := range map[string]string{"signed": "", "with a header": "authorization=Bearer%20token-of-the-user"} {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t, otlptest.Options{})
			v := otlptest.SigV4{AccessKeyID: "LAMBDASIM", SecretAccessKey: "not-a-secret", SessionToken: "not-a-token", Service: "lambda", Region: "eu-west-1"}
			url := httptest.NewUnstartedServer(v.Handler(b))
			cert, ca := certificate(t, host)
			url.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
			url.StartTLS()
			defer url.Close()
			vars := faultVars("end")
			vars["OTLP_RELAY_ENDPOINT"] = "https://" + host + "/"
			vars["OTLP_RELAY_CERTIFICATE"] = file(t, "ca.pem", ca)
			vars["OTLP_RELAY_HEADERS"] = header
			vars["HTTPS_PROXY"] = tunnel(t, url.Listener.Addr().String())
			c := newChain(t, setup{backend: b, vars: vars})
			for range 3 {
				c.invoke(2)
			}
			if a := c.shutdown(); header == "" {
				c.mustArrive(a)
			} else if n := a.dropped(otlp.Traces, otlp.DroppedRefused); n != c.made[otlp.Traces] {
				t.Errorf("%d of %d spans refused by a URL that wants a signature", n, c.made[otlp.Traces])
			}
			c.mustHide("not-a-token", "not-a-secret", "token-of-the-user")
		})
	}
}

// certificate is a self-signed one for a host.
func certificate(t *testing.T, host string) (cert tls.Certificate, ca []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// tunnel is the URL of a proxy that leads every tunnel to addr, whatever host it is asked for.
func tunnel(t *testing.T, addr string) string {
	t.Helper()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out, err := net.Dial("tcp", addr)
		if r.Method != http.MethodConnect || err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer out.Close()
		w.WriteHeader(http.StatusOK)
		in, rest, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer in.Close()
		go func() {
			io.Copy(out, rest)
			out.Close()
		}()
		io.Copy(in, out)
	}))
	t.Cleanup(proxy.Close)
	return proxy.URL
}

// Every way to say OTLP/gRPC leads there, with the headers as metadata; a compression that it does not have becomes gzip.
func TestGRPCDestination(t *testing.T) {
	for name, vars := range map[string]map[string]string{
		"scheme":               {"OTLP_RELAY_ENDPOINT": "grpc://ADDR"},
		"protocol":             {"OTLP_RELAY_ENDPOINT": "http://ADDR", "OTLP_RELAY_PROTOCOL": "grpc", "OTLP_RELAY_COMPRESSION": "zstd"},
		"no scheme, insecure":  {"OTLP_RELAY_ENDPOINT": "ADDR", "OTLP_RELAY_PROTOCOL": "grpc", "OTLP_RELAY_INSECURE": "true", "OTLP_RELAY_COMPRESSION": "none"},
		"a secret of a scheme": {"OTLP_RELAY_ENDPOINT": "${ssm:/endpoint}"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t, otlptest.Options{GRPC: true})
			for k, v := range vars {
				vars[k] = strings.Replace(v, "ADDR", b.Addr(), 1)
			}
			maps.Copy(vars, newKeeper(t, map[string]string{"ssm /endpoint": b.URL()}).vars())
			vars["OTLP_RELAY_HEADERS"] = "x-tenant=a%20b"
			c := newChain(t, setup{backend: b, vars: vars})
			for range 3 {
				c.invoke(2)
			}
			c.mustArrive(c.shutdown())
			for _, r := range b.Requests() {
				if r.Header.Get("X-Tenant") != "a b" {
					t.Errorf("metadata %v", r.Header)
				}
			}
			if warned := len(c.logged(`OTLP_RELAY_COMPRESSION=\"zstd\" is not known: using gzip`)) > 0; warned != (vars["OTLP_RELAY_COMPRESSION"] == "zstd") {
				t.Errorf("warned of the compression: %v", warned)
			}
		})
	}
}

// For debugging, telemetry goes into the extension's own log, one line a request; each signal may have a destination
// of its own.
func TestStdoutDestination(t *testing.T) {
	c := newChain(t, setup{vars: map[string]string{"OTLP_RELAY_LOGS_ENDPOINT": "stdout:"}})
	for range 3 {
		c.invoke(2)
	}
	a := c.shutdown()
	printed := 0
	for _, line := range c.logged("__otel_otlp_stdout") {
		var envelope struct {
			Signal, Payload string
			Records         int
		}
		if err := json.Unmarshal([]byte(line), &envelope); err != nil || envelope.Signal != "logs" || envelope.Payload == "" {
			t.Errorf("%v: %s", err, line)
		}
		printed += envelope.Records
	}
	if made := c.made[otlp.Logs]; printed != made || a.delivered(otlp.Logs) != made {
		t.Errorf("printed %d log records of %d, account %v", printed, made, a)
	}
	if taken := c.backend.Totals(otlp.Traces).Records; taken != c.made[otlp.Traces] || c.backend.Totals(otlp.Logs).Requests > 0 {
		t.Errorf("the backend took %d spans of %d", taken, c.made[otlp.Traces])
	}
}

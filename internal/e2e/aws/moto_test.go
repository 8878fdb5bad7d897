// Package aws tests what speaks to AWS against moto, a server of its services.
package aws

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/otlp-relay/otlp-relay/internal/e2e/toolchain"
	"github.com/otlp-relay/otlp-relay/internal/export"
)

// moto is a running moto_server: AWS's services as its users know them. It verifies signatures with botocore's own
// signer, and policies, once told to.
type moto struct {
	t   *testing.T
	url string
}

const motoRegion = "eu-central-1"

func newMoto(t *testing.T) *moto {
	t.Helper()
	cmd := exec.Command(filepath.Join(toolchain.Need(t, "moto"), "bin", "moto_server"), "-H", "127.0.0.1", "-p", "0")
	cmd.Env = append(os.Environ(), "INITIAL_NO_AUTH_ACTION_COUNT=1000000")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	found, ended := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		running := regexp.MustCompile(`Running on (http://127\.0\.0\.1:\d+)`)
		for s := bufio.NewScanner(stderr); s.Scan(); {
			if m := running.FindStringSubmatch(s.Text()); m != nil {
				found <- m[1]
			}
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
		cmd.Wait()
	})
	select {
	case u := <-found:
		return &moto{t, u}
	case <-ended:
		t.Fatal("moto_server did not start")
	case <-t.Context().Done():
	}
	return nil
}

// post makes a request that moto takes for the service's, and returns the answer.
func (m *moto) post(service, path, contentType, target, body string) string {
	m.t.Helper()
	req, err := http.NewRequest(http.MethodPost, m.url+path, strings.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	if target != "" {
		req.Header.Set("X-Amz-Target", target)
	}
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=setup/20261124/"+motoRegion+"/"+service+"/aws4_request, SignedHeaders=host, Signature=0")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		m.t.Fatalf("%s %s: HTTP %d, %v: %s", service, target+body, res.StatusCode, err, answer)
	}
	return string(answer)
}

// json makes a request of an AWS JSON service and reads a field of the answer.
func (m *moto) json(service, target string, in map[string]any, field string) string {
	m.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		m.t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal([]byte(m.post(service, "/", "application/x-amz-json-1.1", target, string(body))), &out); err != nil {
		m.t.Fatal(err)
	}
	return fmt.Sprint(out[field])
}

// user is a new user's key, with a policy that allows the actions.
func (m *moto) user(name string, actions ...string) aws.CredentialsProvider {
	m.t.Helper()
	iam := func(v url.Values) string {
		v.Set("Version", "2010-05-08")
		v.Set("UserName", name)
		return m.post("iam", "/", "application/x-www-form-urlencoded", "", v.Encode())
	}
	iam(url.Values{"Action": {"CreateUser"}})
	answer := iam(url.Values{"Action": {"CreateAccessKey"}})
	policy, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []any{map[string]any{"Effect": "Allow", "Action": actions, "Resource": "*"}}})
	if err != nil {
		m.t.Fatal(err)
	}
	iam(url.Values{"Action": {"PutUserPolicy"}, "PolicyName": {"p"}, "PolicyDocument": {string(policy)}})
	element := func(name string) string {
		_, rest, _ := strings.Cut(answer, "<"+name+">")
		text, _, ok := strings.Cut(rest, "</"+name+">")
		if !ok {
			m.t.Fatalf("no %s in %s", name, answer)
		}
		return text
	}
	return motoKey(element("AccessKeyId"), element("SecretAccessKey"))
}

func motoKey(id, secret string) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: id, SecretAccessKey: secret}, nil
	})
}

// secrets reads secrets from m with somebody's key.
func (m *moto) secrets(creds aws.CredentialsProvider) *export.Secrets {
	env := map[string]string{"AWS_REGION": motoRegion, "AWS_ENDPOINT_URL": m.url}
	return export.NewSecrets(export.SecretsConfig{Credentials: creds, Env: func(name string) string { return env[name] }})
}

// Parameters and secrets come from services that verify signatures and policies as AWS does.
func TestSecretsFromAWS(t *testing.T) {
	m := newMoto(t)
	const ssm, sm = "AmazonSSM.", "secretsmanager."
	m.json("ssm", ssm+"PutParameter", map[string]any{"Name": "/otlp/token", "Value": "first", "Type": "SecureString"}, "Version")
	m.json("ssm", ssm+"PutParameter", map[string]any{"Name": "/otlp/token", "Value": "Bearer s3cret ü", "Type": "SecureString", "Overwrite": true}, "Version")
	m.json("ssm", ssm+"LabelParameterVersion", map[string]any{"Name": "/otlp/token", "ParameterVersion": 1, "Labels": []string{"old"}}, "")
	m.json("ssm", ssm+"PutParameter", map[string]any{"Name": "plain", "Value": "text", "Type": "String"}, "Version")
	arn := m.json("secretsmanager", sm+"CreateSecret", map[string]any{"Name": "otlp/json", "SecretString": `{"token":"t0ken","port":4317}`}, "ARN")
	m.json("secretsmanager", sm+"CreateSecret", map[string]any{"Name": "text", "SecretString": "whole"}, "ARN")
	m.json("secretsmanager", sm+"CreateSecret", map[string]any{"Name": "binary", "SecretBinary": "AAEC"}, "ARN")
	m.json("secretsmanager", sm+"CreateSecret", map[string]any{"Name": "deleted", "SecretString": "gone"}, "ARN")
	m.json("secretsmanager", sm+"DeleteSecret", map[string]any{"SecretId": "deleted"}, "ARN")
	reader := m.user("reader", "ssm:GetParameter", "secretsmanager:GetSecretValue")
	stranger := m.user("stranger", "s3:ListAllMyBuckets")
	key, err := reader.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m.post("iam", "/moto-api/reset-auth", "text/plain", "", "0") // from here on, nothing unsigned

	parameter := func(creds aws.CredentialsProvider, name string) func() (string, error) {
		return func() (string, error) { return m.secrets(creds).Parameter(t.Context(), name) }
	}
	secret := func(creds aws.CredentialsProvider, id, key string) func() (string, error) {
		return func() (string, error) { return m.secrets(creds).Secret(t.Context(), id, key) }
	}
	for name, test := range map[string]struct {
		get  func() (string, error)
		want string // the value, or an error's part
	}{
		"SecureString":    {parameter(reader, "/otlp/token"), "Bearer s3cret ü"},
		"a version":       {parameter(reader, "/otlp/token:1"), "first"},
		"a label":         {parameter(reader, "/otlp/token:old"), "first"},
		"String":          {parameter(reader, "plain"), "text"},
		"parameter's ARN": {parameter(reader, "arn:aws:ssm:"+motoRegion+":123456789012:parameter/otlp/token"), "Bearer s3cret ü"},
		"a key":           {secret(reader, "otlp/json", "token"), "t0ken"},
		"a number":        {secret(reader, "otlp/json", "port"), "4317"},
		"secret's ARN":    {secret(reader, arn, "token"), "t0ken"},
		"whole":           {secret(reader, "text", ""), "whole"},
		"no parameter":    {parameter(reader, "/nope"), "read SSM parameter /nope: HTTP 400: ParameterNotFound"},
		"no version":      {parameter(reader, "/otlp/token:9"), "ParameterVersionNotFound"},
		"no secret":       {secret(reader, "nope", ""), "ResourceNotFoundException"},
		"no key":          {secret(reader, "otlp/json", "nope"), `read secret otlp/json: it has no key "nope"`},
		"binary":          {secret(reader, "binary", ""), "it is binary"},
		"deleted":         {secret(reader, "deleted", ""), "InvalidRequestException"},
		// moto writes these in XML, which a service that speaks JSON does not.
		"not allowed":      {parameter(stranger, "/otlp/token"), "(allow ssm:GetParameter to the function's role)"},
		"not allowed, too": {secret(stranger, "text", ""), "(allow secretsmanager:GetSecretValue to the function's role)"},
		"another's key":    {parameter(motoKey(key.AccessKeyID, "another"), "/otlp/token"), "SignatureDoesNotMatch"},
		"nobody's key":     {secret(motoKey("AKIAUNKNOWN", "another"), "text", ""), "InvalidClientTokenId"},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := test.get()
			if got := v + fmt.Sprint(err); err == nil && v != test.want || err != nil && (v != "" || !strings.Contains(got, test.want)) {
				t.Errorf("%q, %v; want %q", v, err, test.want)
			}
		})
	}
}

package export

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

const (
	// secretTimeout is the most that fetching one secret may take, with its retries.
	secretTimeout = 5 * time.Second

	// secretAttempt is the most that one attempt may take.
	secretAttempt = 2 * time.Second
)

// SecretsConfig says how secrets are fetched.
type SecretsConfig struct {
	Credentials aws.CredentialsProvider

	// Env reads an environment variable, as os.Getenv does: AWS_REGION, and AWS_ENDPOINT_URL_SSM,
	// AWS_ENDPOINT_URL_SECRETS_MANAGER or AWS_ENDPOINT_URL where the services are elsewhere (AWS SDKs and Tools
	// Reference Guide, "Service-specific endpoints").
	Env func(name string) string

	// As in HTTPConfig.
	UserAgent string
	TLS       *tls.Config
	Roots     *Roots
	Proxy     func(*url.URL) (*url.URL, error)
	Now       func() time.Time
	Dial      func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Secrets fetches values from SSM Parameter Store and AWS Secrets Manager. Each call is one signed request on a
// connection of its own, tried again while the service is throttling, out of order or silent, for 5 s at most or
// as long as ctx lasts. An error names the parameter or the secret and the remedy, never a value.
type Secrets struct{ cfg SecretsConfig }

// NewSecrets returns a Secrets. It asks nobody.
func NewSecrets(cfg SecretsConfig) *Secrets { return &Secrets{cfg: cfg} }

// Parameter returns the value of an SSM parameter, decrypted where it is a SecureString. name is a name, with
// a version or a label after a colon where one is wanted, or an ARN.
func (s *Secrets) Parameter(ctx context.Context, name string) (string, error) {
	c := awsCall{
		what: "SSM parameter " + name, action: "ssm:GetParameter", service: "ssm", target: "AmazonSSM.GetParameter",
		endpoint: "AWS_ENDPOINT_URL_SSM", region: arnRegion(name),
	}
	var answer struct{ Parameter struct{ Value *string } }
	err := s.call(ctx, c, map[string]any{"Name": name, "WithDecryption": true}, &answer)
	switch {
	case err != nil:
		return "", err
	case answer.Parameter.Value == nil:
		return "", c.errorf("the answer holds no value: does %s lead to SSM?", c.endpoint)
	}
	return *answer.Parameter.Value, nil
}

// Secret returns a secret of Secrets Manager. id is its name or its ARN. An empty key means the whole text, any
// other the field of that name in the JSON object that the text is.
func (s *Secrets) Secret(ctx context.Context, id, key string) (string, error) {
	c := awsCall{
		what: "secret " + id, action: "secretsmanager:GetSecretValue", service: "secretsmanager", target: "secretsmanager.GetSecretValue",
		endpoint: "AWS_ENDPOINT_URL_SECRETS_MANAGER", region: arnRegion(id),
	}
	if n := strings.Count(id, ":"); n > 0 && (n != 6 || !strings.HasPrefix(id, "arn:")) {
		return "", c.errorf("that is neither a name nor an ARN: write name#key or arn:…:secret:name-123456#key; a version cannot be chosen")
	}
	var answer struct {
		SecretString *string
		SecretBinary []byte
	}
	err := s.call(ctx, c, map[string]any{"SecretId": id}, &answer)
	switch {
	case err != nil:
		return "", err
	case answer.SecretString == nil && answer.SecretBinary != nil:
		return "", c.errorf("it is binary: store it as text")
	case answer.SecretString == nil:
		return "", c.errorf("the answer holds no value: does %s lead to Secrets Manager?", c.endpoint)
	case key == "":
		return *answer.SecretString, nil
	}
	return field(c, *answer.SecretString, key)
}

// field is a field of a JSON object: a string's text, or a number or a boolean as it is written.
func field(c awsCall, object, key string) (string, error) {
	var fields map[string]json.RawMessage
	if json.Unmarshal([]byte(object), &fields) != nil { // the error may repeat a part
		return "", c.errorf("its text is not a JSON object, so it has no key %q: leave out #%s to use it whole", key, key)
	}
	raw, ok := fields[key]
	if !ok {
		return "", c.errorf("it has no key %q", key)
	}
	switch raw[0] {
	case '"':
		var text string
		err := json.Unmarshal(raw, &text)
		return text, err
	case '{', '[', 'n':
		return "", c.errorf("the value of its key %q is not text", key)
	}
	return string(raw), nil
}

// arnRegion is the region that an ARN names; empty where it is none.
func arnRegion(arn string) string {
	if parts := strings.Split(arn, ":"); len(parts) > 5 && parts[0] == "arn" && isRegion(parts[3]) {
		return parts[3]
	}
	return ""
}

// awsCall is one operation of an AWS service that speaks JSON 1.1.
type awsCall struct {
	what     string // that is read, for errors
	action   string // the IAM action
	service  string // in the endpoint's name and in the signature
	target   string // X-Amz-Target
	endpoint string // the variable that names the endpoint
	region   string // empty: the function's own
}

// errorf is an error of reading c.what.
func (c awsCall) errorf(format string, args ...any) error {
	return fmt.Errorf("read %s: %w", c.what, fmt.Errorf(format, args...))
}

// call sends in and reads out.
func (s *Secrets) call(ctx context.Context, c awsCall, in, out any) error {
	if c.region == "" {
		if c.region = s.cfg.Env("AWS_REGION"); c.region == "" {
			return c.errorf("no region: set AWS_REGION")
		}
	}
	body, err := json.Marshal(in)
	if err != nil {
		return c.errorf("%w", err)
	}
	l, err := s.link(c)
	if err != nil {
		return c.errorf("%w", err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, secretTimeout, fmt.Errorf("no answer within %v: %w", secretTimeout, context.DeadlineExceeded))
	defer cancel()
	err = RetryConfig{Budget: secretTimeout}.retry(ctx, func() error { return attempt(ctx, l, c, body, out) })
	if err != nil {
		return c.errorf("%w", err)
	}
	return nil
}

// link is a way to c's service.
func (s *Secrets) link(c awsCall) (*link, error) {
	endpoint, variable := s.cfg.Env(c.endpoint), c.endpoint
	if endpoint == "" {
		endpoint, variable = s.cfg.Env("AWS_ENDPOINT_URL"), "AWS_ENDPOINT_URL"
	}
	if endpoint == "" || strings.EqualFold(s.cfg.Env("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"), "true") {
		endpoint, variable = "https://"+c.service+"."+c.region+"."+apiDomain(c.region), "AWS_REGION"
	}
	u, err := url.Parse(endpoint)
	if err != nil || checkURL(u) != nil {
		return nil, fmt.Errorf("%s does not make a URL: write it as https://host[:port]", variable)
	}
	return newLink(HTTPConfig{
		URL: u, Header: http.Header{"X-Amz-Target": {c.target}}, UserAgent: s.cfg.UserAgent,
		Signer: NewSigner(s.cfg.Credentials, c.service, c.region, s.cfg.Now),
		TLS:    s.cfg.TLS, Roots: s.cfg.Roots, Proxy: s.cfg.Proxy, Now: s.cfg.Now, Dial: s.cfg.Dial,
	})
}

// attempt makes one request. Its error is an *otlp.Error that says whether another one may help.
func attempt(ctx context.Context, l *link, c awsCall, body []byte, out any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, secretAttempt, fmt.Errorf("no answer within %v: %w", secretAttempt, context.DeadlineExceeded))
	defer cancel()
	r, err := l.post(ctx, "application/x-amz-json-1.1", "", body)
	switch {
	case err != nil:
		return l.noAnswer(ctx, err)
	case r.status != http.StatusOK:
		return c.refusal(r, l.head.signer)
	case len(r.body) == maxBody:
		return &otlp.Error{Message: "the answer is larger than 64 KiB"}
	case json.Unmarshal(r.body, out) != nil: // the error may repeat a part
		return &otlp.Error{Message: "the answer of " + l.dialer.addr + " is not what AWS specifies: does " + c.endpoint + " lead to it?"}
	}
	return nil
}

// refusal is the error of an answer that is none of success (AWS JSON 1.1 protocol, "Operation error
// serialization").
func (c awsCall) refusal(r *response, signer *Signer) *otlp.Error {
	var answer struct {
		Type    string `json:"__type"`
		Message string // as the decoder ignores case, also "message"
	}
	json.Unmarshal(r.body, &answer) // what is not JSON says nothing
	code := answer.Type
	if code == "" {
		code = r.header.Get("X-Amzn-Errortype")
	}
	code = code[strings.LastIndexByte(code, '#')+1:] // after the shape's namespace
	code, _, _ = strings.Cut(code, ":")
	e := &otlp.Error{Code: otlp.CodeForHTTP(r.status), HTTPStatus: r.status}
	text := answer.Message
	switch {
	case code != "":
		text = strings.TrimSuffix(code+": "+text, ": ")
	case text == "": // somebody on the way
		text = textOf(r)
	}
	text = printable(signer.redact(text), maxMessage)
	_, action, unauthorized := strings.Cut(text, "not authorized to perform: ")
	switch {
	case unauthorized: // with a SecureString it may be kms:Decrypt
		e.Message = text + " (allow " + actionName(action) + " to the function's role)"
	case strings.HasPrefix(code, "AccessDenied"):
		e.Message = text + " (allow " + c.action + " to the function's role)"
	case code == "ParameterNotFound", code == "ResourceNotFoundException", code == "ParameterVersionNotFound":
		e.Message = text + " (check its name, its account and its region, " + c.region + ")"
	case strings.HasPrefix(code, "ExpiredToken"):
		e.Message = text + signer.hint(code)
	default:
		e.Message = text
		throttled := strings.Contains(code, "Throttl") || code == "TooManyRequestsException" || code == "RequestLimitExceeded"
		e.Retryable = throttled || r.status == http.StatusTooManyRequests || r.status/100 == 5
	}
	return e
}

// actionName is the name of an IAM action that text begins with.
func actionName(text string) string {
	end := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsLetter(r) && r != ':' && r != '-' })
	if end < 0 {
		return text
	}
	return text[:end]
}

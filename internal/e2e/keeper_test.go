package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// keeper is SSM Parameter Store and Secrets Manager: it knows what it is asked for only where the request is signed
// with the environment's credentials, for the right service.
type keeper struct {
	*httptest.Server
	values map[string]string // by service and name: "ssm /key"

	mu    sync.Mutex
	meet  func(w http.ResponseWriter, r *http.Request) (answered bool) // what happens to requests instead; nil: nothing
	asked map[string]int
	first time.Time // when it was asked for the first time
}

func newKeeper(t *testing.T, values map[string]string) *keeper {
	k := &keeper{values: values, asked: map[string]int{}}
	k.Server = httptest.NewServer(k)
	t.Cleanup(k.Server.Close)
	return k
}

// vars points the extension at the keeper.
func (k *keeper) vars() map[string]string {
	return map[string]string{"AWS_ENDPOINT_URL_SSM": k.URL, "AWS_ENDPOINT_URL_SECRETS_MANAGER": k.URL}
}

func (k *keeper) set(meet func(http.ResponseWriter, *http.Request) bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.meet = meet
}

// times is how often it was asked for a secret, and since when.
func (k *keeper) times(name string) (n int, first time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.asked[name], k.first
}

func (k *keeper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var in struct {
		Name, SecretId string
		WithDecryption bool
	}
	_ = json.Unmarshal(body, &in)
	service, form := "ssm", `{"Parameter":{"Name":%q,"Type":"SecureString","Value":%q,"Version":1}}`
	if r.Header.Get("X-Amz-Target") == "secretsmanager.GetSecretValue" {
		service, form, in.Name = "secretsmanager", `{"Name":%q,"SecretString":%q}`, in.SecretId
	}
	name := service + " " + in.Name
	k.mu.Lock()
	k.asked[name]++
	if k.first.IsZero() {
		k.first = time.Now()
	}
	meet := k.meet
	k.mu.Unlock()
	if meet != nil && meet(w, r) {
		return
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	v := otlptest.SigV4{AccessKeyID: "LAMBDASIM", SecretAccessKey: "not-a-secret", SessionToken: "not-a-token", Service: service, Region: "us-east-1"}
	if err := v.Verify(r, body); err != nil {
		refuse(w, "IncompleteSignature", err.Error())
		return
	}
	value, ok := k.values[name]
	switch {
	case !ok && service == "ssm":
		refuse(w, "ParameterNotFound", "")
	case !ok:
		refuse(w, "ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
	case service == "ssm" && !in.WithDecryption:
		refuse(w, "ValidationException", "want WithDecryption")
	default:
		fmt.Fprintf(w, form, in.Name, value)
	}
}

// refuse answers as AWS's JSON protocol does.
func refuse(w http.ResponseWriter, kind, message string) {
	w.WriteHeader(http.StatusBadRequest)
	fmt.Fprintf(w, `{"__type":%q,"message":%q}`, kind, message)
}

func denied(w http.ResponseWriter, _ *http.Request) bool {
	refuse(w, "AccessDeniedException", "User: arn:aws:sts::1:assumed-role/r is not authorized to perform: ssm:GetParameter on resource: x")
	return true
}

func throttled(w http.ResponseWriter, _ *http.Request) bool {
	refuse(w, "ThrottlingException", "Rate exceeded")
	return true
}

// hangs until its client is gone.
func hangs(_ http.ResponseWriter, r *http.Request) bool {
	<-r.Context().Done()
	return true
}

// mustHide checks that none of the secrets shows in the extension's log.
func (c *chain) mustHide(secrets ...string) {
	c.t.Helper()
	for _, line := range c.lines(extensionName) {
		for _, s := range secrets {
			if strings.Contains(line, s) {
				c.t.Errorf("the log shows %q: %s", s, line)
			}
		}
	}
}

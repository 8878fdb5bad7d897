package extension

import (
	"sync"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// Check finds what is wrong with destinations beyond what ParseConfig can see: files and credentials that are not
// there, values that no request can carry. It is for tools: Run finds the same when it makes its clients.
func (c *Config) Check() (errs [otlp.SignalCount]error) {
	a := &app{cfg: *c, now: wallNow}
	a.credentials = sync.OnceValues(a.newCredentials)
	for _, sig := range otlp.Signals() {
		d := &c.Destinations[sig]
		if d.Err != nil || d.URL == nil {
			continue
		}
		_, err := a.newClient(sig, d)
		errs[sig] = c.named(sig, err)
	}
	return errs
}

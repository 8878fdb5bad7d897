package e2e

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// account is the sum of the extension's ledger lines, one of each incarnation, in records:
// "traces.accepted", "traces.dropped.refused" and so on.
type account map[string]int

var ledgerField = regexp.MustCompile(`([a-z_.]+)\.records=(\d+)`)

// account reads the ledger out of the log, in either format, and checks that it balances in records and bytes.
func (c *chain) account() account {
	c.t.Helper()
	sum, found := account{}, false
	for _, line := range c.lines(extensionName) {
		switch {
		case strings.Contains(line, "msg=ledger"):
			for _, m := range ledgerField.FindAllStringSubmatch(line, -1) {
				n, _ := strconv.Atoi(m[2])
				sum[m[1]] += n
			}
			if !strings.Contains(line, "balanced=true") {
				c.t.Errorf("the ledger does not balance: %s", line)
			}
			found = true
		case strings.Contains(line, `"msg":"ledger"`):
			var fields map[string]any
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				c.t.Fatalf("the ledger is no JSON: %v: %s", err, line)
			}
			if fields["balanced"] != true {
				c.t.Errorf("the ledger does not balance: %s", line)
			}
			sum.addJSON("", fields)
			found = true
		}
	}
	if !found {
		c.t.Error("the extension logged no ledger")
	}
	return sum
}

func (a account) addJSON(path string, fields map[string]any) {
	for k, v := range fields {
		switch v := v.(type) {
		case map[string]any:
			a.addJSON(path+k+".", v)
		case float64:
			if k == "records" {
				a[strings.TrimSuffix(path, ".")] += int(v)
			}
		}
	}
}

func (a account) accepted(sig otlp.Signal) int  { return a[sig.String()+".accepted"] }
func (a account) delivered(sig otlp.Signal) int { return a[sig.String()+".delivered"] }

func (a account) dropped(sig otlp.Signal, why otlp.Reason) int {
	return a[sig.String()+".dropped."+string(why)]
}

// lost is what was dropped of a signal, for any reason but those named.
func (a account) lost(sig otlp.Signal, but ...otlp.Reason) (n int) {
	for k, v := range a {
		if strings.HasPrefix(k, sig.String()+".dropped.") {
			n += v
		}
	}
	for _, why := range but {
		n -= a.dropped(sig, why)
	}
	return n
}

// threeSignals are those that the example function makes.
var threeSignals = []otlp.Signal{otlp.Traces, otlp.Metrics, otlp.Logs}

// mustArrive checks that everything made has arrived, once, and that the extension says so too.
func (c *chain) mustArrive(a account) {
	c.t.Helper()
	c.mustBalance(a)
	for _, sig := range otlp.Signals() {
		if lost := a.lost(sig); lost > 0 {
			c.t.Errorf("%s: %d of %d records lost", sig, lost, c.made[sig])
		}
	}
}

// mustBalance checks the account against what was made and against what the backend counted: nothing is lost
// or doubled unnoticed.
func (c *chain) mustBalance(a account) {
	c.t.Helper()
	for _, sig := range otlp.Signals() {
		taken := c.backend.Totals(sig).Records
		if a.accepted(sig) != c.made[sig] || a.delivered(sig) != taken || a.accepted(sig) != a.delivered(sig)+a.lost(sig) {
			c.t.Errorf("%s: made %d, the backend took %d; account: accepted %d, delivered %d, dropped %d",
				sig, c.made[sig], taken, a.accepted(sig), a.delivered(sig), a.lost(sig))
		}
	}
	if d := c.backend.Duplicates(); len(d) > 0 {
		c.t.Errorf("%d records arrived twice", len(d))
	}
}

package extension

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// environment reads variables. It keeps what has to be said about them and which of them are in force.
type environment struct {
	vars     map[string]string // as they are set
	secrets  map[reference]string
	sources  map[string]string // Config.Sources
	warnings []string

	ownEndpoint bool // an endpoint of ours is set, for any signal
}

func newEnvironment(vars map[string]string, secrets map[reference]string) *environment {
	e := &environment{vars: vars, secrets: secrets, sources: map[string]string{}}
	for k, v := range vars {
		if strings.HasPrefix(k, prefix) && strings.HasSuffix(k, "ENDPOINT") && strings.TrimSpace(v) != "" {
			e.ownEndpoint = true
		}
	}
	return e
}

func (e *environment) warn(format string, args ...any) {
	w := fmt.Sprintf(format, args...)
	if !slices.Contains(e.warnings, w) { // what all signals share is said once
		e.warnings = append(e.warnings, w)
	}
}

// get is a variable's value, without what a careless paste has put around it. An empty value is an unset one
// (OTel specification, "Parsing empty value").
func (e *environment) get(name string) string {
	raw := e.vars[name]
	v := strings.TrimSpace(raw)
	switch n := len(v); {
	case n >= 2 && (v[0] == '"' || v[0] == '\'') && v[0] == v[n-1]:
		e.warn("%s has quotes around its value, which are left out: set it without them", name)
		return strings.TrimSpace(v[1 : n-1])
	case v != raw && v != "":
		e.warn("%s has white space around its value, which is left out: set it without", name)
	}
	return v
}

// variable is one that was read, for one of Config.Sources' settings. Its value is empty where nothing is set.
type variable struct{ name, value, setting string }

// read reads a variable of ours that is not about a destination.
func (e *environment) read(name string) variable {
	v := variable{name, e.get(prefix + name), name}
	switch v.name = prefix + name; {
	case strings.Contains(v.value, "${"):
		e.warn("%s holds a reference, which is resolved in a destination's settings only: set the value itself", v.name)
		v.value = ""
	case v.value != "":
		e.sources[name] = v.name
	}
	return v
}

// reject says that a variable is not used, why, what is used instead, and what to write.
func (e *environment) reject(v variable, why string, used any, remedy string) {
	delete(e.sources, v.setting)
	e.warn("%s=%s %s: using %v; %s", v.name, e.quoted(v.name), why, used, remedy)
}

// maxQuoted is how much of a wrong value is repeated, in bytes.
const maxQuoted = 64

// quoted is a variable's value as messages show it: as it is set, so that what a reference stands for stays out.
func (e *environment) quoted(name string) string {
	v := strings.TrimSpace(e.vars[name])
	if len(v) > maxQuoted {
		v = v[:maxQuoted] + "…"
	}
	return strconv.Quote(v)
}

// oneOf reads one of a few words.
func (e *environment) oneOf(v variable, fallback string, words ...string) string {
	word := strings.ToLower(v.value)
	switch {
	case word == "":
		return fallback
	case slices.Contains(words, word):
		return word
	}
	e.reject(v, "is not known", fallback, "set it to "+choice(word, words))
	return fallback
}

// choice is the words to choose from, the nearest alone where one is near.
func choice(word string, words []string) string {
	if w := nearest(word, words); w != "" {
		return w
	}
	n := len(words) - 1
	return strings.Join(words[:n], ", ") + " or " + words[n]
}

// duration reads a Go duration or an integer in milliseconds, as OTLP's own variables have it.
func (e *environment) duration(v variable, fallback, most time.Duration) time.Duration {
	if v.value == "" {
		return fallback
	}
	d, ok := parseDuration(v.value)
	switch {
	case !ok:
		e.reject(v, "is not a duration", fallback, durationRemedy(v.value))
	case d < 0:
		e.reject(v, "is below 0", fallback, "set it to 0 or more")
	case d > most:
		e.reject(v, "is more than "+most.String(), fallback, "set it to "+most.String()+" or less; a bare number is in milliseconds")
	default:
		return d
	}
	return fallback
}

func parseDuration(v string) (d time.Duration, ok bool) {
	if ms, err := strconv.ParseInt(v, 10, 64); err == nil {
		const most = int64(1<<63-1) / int64(time.Millisecond)
		return time.Duration(min(max(ms, -1), most)) * time.Millisecond, true
	}
	d, err := time.ParseDuration(v)
	return d, err == nil
}

// durationRemedy is how to write what v seems to mean.
func durationRemedy(v string) string {
	s := strings.ToLower(strings.ReplaceAll(strings.ReplaceAll(v, ",", "."), " ", ""))
	number := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzµ")
	switch unit := s[len(number):]; {
	case strings.HasPrefix(unit, "mil") || strings.HasPrefix(unit, "ms"):
		s = number + "ms"
	case strings.HasPrefix(unit, "s"):
		s = number + "s"
	case strings.HasPrefix(unit, "min"):
		s = number + "m"
	}
	if d, ok := parseDuration(s); ok && d >= 0 && number != s {
		return "write " + s
	}
	return "write it as 5s, 500ms, or a number of milliseconds"
}

// count reads a number of so many things, from least to most; 0 means the default.
func (e *environment) count(v variable, things string, least, most int) int {
	if v.value == "" {
		return 0
	}
	n, err := strconv.Atoi(v.value)
	switch {
	case err != nil:
		e.reject(v, "is not a whole number of "+things, "the default", countRemedy(v.value))
		return 0
	case n < least:
		e.reject(v, "is too small", "the default", fmt.Sprintf("set it to %d or more", least))
		return 0
	case n > most:
		e.reject(v, "is too large", "the default", fmt.Sprintf("set it to %d or less", most))
		return 0
	}
	return n
}

// countRemedy is how to write what v seems to mean.
func countRemedy(v string) string {
	s := strings.ToLower(strings.NewReplacer(",", "", "_", "", " ", "").Replace(v))
	number := strings.TrimRight(s, "kmgib")
	factor, ok := map[string]int{"": 1, "b": 1, "k": 1e3, "kb": 1e3, "kib": 1 << 10, "m": 1e6, "mb": 1e6, "mib": 1 << 20,
		"g": 1e9, "gb": 1e9, "gib": 1 << 30}[s[len(number):]]
	if n, err := strconv.ParseUint(number, 10, 32); err == nil && ok && n > 0 {
		return fmt.Sprintf("write %d", int(n)*factor)
	}
	return "write digits only"
}

// addr reads where a listener binds: host:port.
func (e *environment) addr(v variable, fallback string) string {
	if v.value == "" {
		return fallback
	}
	host, port, err := net.SplitHostPort(v.value)
	switch {
	case err != nil || strings.Contains(host, "/"):
		e.reject(v, "is not host:port", fallback, "write it as "+fallback)
	case !validPort(port):
		e.reject(v, "has no port from 1 to 65535", fallback, "write it as "+fallback)
	case port == telemetryPort:
		e.reject(v, "has the port of the Telemetry API listener", fallback, "choose another")
	default:
		return v.value
	}
	return fallback
}

// telemetryPort is the one that the platform sends telemetry to.
const telemetryPort = "4319"

func validPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// loopback says whether a host is this machine, as functions call it.
func loopback(host string) bool {
	host, _, _ = strings.Cut(strings.TrimSuffix(strings.ToLower(host), "."), "%") // without a zone
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || host == "sandbox.localdomain" || host == "sandbox" || err == nil && (ip.IsLoopback() || ip.IsUnspecified())
}

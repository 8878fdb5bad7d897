package main

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"

	"github.com/otlp-relay/otlp-relay/internal/extension"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/tune"
)

// byName is an environment as a map.
func byName(environ []string) map[string]string {
	m := make(map[string]string, len(environ))
	for _, kv := range environ {
		k, v, _ := strings.Cut(kv, "=")
		m[k] = v
	}
	return m
}

func appendNew(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// source is where a setting's value comes from.
func source(cfg *extension.Config, setting string) string {
	if v := cfg.Sources[setting]; v != "" {
		return v
	}
	return "default"
}

// settingRows are the settings that are not about a destination.
func settingRows(cfg *extension.Config, vars map[string]string) (rows []row) {
	t := tune.For(cfg.MemoryMB, cfg.BufferBytes)
	items := cfg.BufferItems
	if items == 0 {
		items = t.BufferBytes / 512
	}
	memory := "AWS_LAMBDA_FUNCTION_MEMORY_SIZE"
	if cfg.MemoryMB == 0 {
		memory += ", which is not set"
	}
	values := map[string]string{
		"FLUSH": cfg.Flush.String(), "FLUSH_INTERVAL": cfg.FlushInterval.String(), "FLUSH_TIMEOUT": cfg.FlushTimeout.String(),
		"BUFFER_BYTES": fmt.Sprint(t.BufferBytes), "BUFFER_ITEMS": fmt.Sprint(items),
		"HTTP_ADDR": cfg.HTTPAddr, "GRPC_ADDR": cfg.GRPCAddr, "LOG_LEVEL": cfg.LogLevel, "SELF_METRICS": fmt.Sprint(cfg.SelfMetrics),
		"SPOOL": cmp.Or(cfg.Spool, "off"),
	}
	for _, name := range extension.Settings() {
		r := row{name, values[name], source(cfg, name)}
		switch {
		case r.Source != "default":
		case name == "BUFFER_BYTES":
			r.Source = memory
		case name == "BUFFER_ITEMS":
			r.Source = "BUFFER_BYTES"
		}
		if v, set := vars["OTLP_RELAY_"+name]; r.Value == "" && set { // it is not the extension's own
			r.Value, r.Source = v, "OTLP_RELAY_"+name
		}
		rows = append(rows, r)
	}
	format := row{"log format", "text", "default"}
	if cfg.LogJSON {
		format = row{"log format", "JSON", "AWS_LAMBDA_LOG_FORMAT"}
	}
	return append(rows, format,
		row{"GOMAXPROCS", fmt.Sprint(t.Procs), fmt.Sprintf("%s; this machine has %d cores", memory, runtime.NumCPU())},
		row{"GOMEMLIMIT", fmt.Sprint(t.MemoryLimit), "BUFFER_BYTES"})
}

// destinationRows are the settings of one signal's destination.
func destinationRows(cfg *extension.Config, sig otlp.Signal, vars map[string]string) (rows []row) {
	d := &cfg.Destinations[sig]
	prefix := strings.ToUpper(sig.String()) + "_"
	system := func(file, none string) string {
		if file == "" {
			return none
		}
		return file
	}
	values := map[string]string{
		"ENDPOINT": endpoint(d, vars[cfg.Sources[prefix+"ENDPOINT"]]), "PROTOCOL": string(d.Protocol), "HEADERS": headers(d.Header),
		"COMPRESSION": d.Compression.String(), "TIMEOUT": d.Timeout.String(), "CERTIFICATE": system(d.Certificate, "the system's authorities"),
		"CLIENT_CERTIFICATE": system(d.ClientCert, "none"), "CLIENT_KEY": system(d.ClientKey, "none"),
	}
	if d.URL != nil {
		values["INSECURE"] = fmt.Sprint(!strings.HasSuffix(d.URL.Scheme, "s"))
	}
	for _, name := range extension.DestinationSettings() {
		r := row{name, values[name], source(cfg, prefix+name)}
		if name == "PROTOCOL" || name == "INSECURE" {
			if r.Source == "default" {
				r.Source = "ENDPOINT"
			}
		}
		rows = append(rows, r)
	}
	if d.Signed {
		rows = append(rows, row{"signed", "for " + d.Service + " in " + d.Region, "ENDPOINT"})
	}
	if len(d.Secrets) > 0 {
		var refs []string
		for _, r := range d.Secrets {
			refs = append(refs, string(r))
		}
		rows = append(rows, row{"secrets", strings.Join(refs, " "), "fetched once the extension runs"})
	}
	return rows
}

const masked = "********"

// endpoint is where d's requests go, without what may let somebody in. raw is what its variable holds.
func endpoint(d *extension.Destination, raw string) string {
	switch {
	case d.Protocol == extension.Stdout:
		return "stdout:"
	case d.URL == nil:
		return mask(raw)
	}
	u := *d.URL
	u.User = nil
	if query := u.Query(); len(query) > 0 {
		var names []string
		for _, name := range slices.Sorted(maps.Keys(query)) {
			names = append(names, url.QueryEscape(name)+"="+masked)
		}
		u.RawQuery = strings.Join(names, "&")
	}
	if d.URL.User != nil {
		return strings.Replace(u.String(), "://", "://"+masked+"@", 1)
	}
	return u.String()
}

// headers is a list of headers without their values.
func headers(h http.Header) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, v := range h[name] {
			list = append(list, strings.ToLower(name)+"="+mask(v))
		}
	}
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

// mask hides all of a value but the references in it, which are no secrets.
func mask(v string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(v, "${")
		if before != "" {
			b.WriteString(masked)
		}
		if !found {
			return b.String()
		}
		name, after, _ := strings.Cut(rest, "}")
		b.WriteString("${" + name + "}")
		v = after
	}
}

// unused are the variables about destinations that are set while another one is in force.
func unused(cfg *extension.Config, vars map[string]string) (names []string) {
	used := slices.Collect(maps.Values(cfg.Sources))
	for _, prefix := range []string{"OTLP_RELAY_", "OTEL_EXPORTER_OTLP_"} {
		for _, signal := range []string{"", "TRACES_", "METRICS_", "LOGS_", "PROFILES_"} {
			for _, name := range extension.DestinationSettings() {
				if v := prefix + signal + name; strings.TrimSpace(vars[v]) != "" && !slices.Contains(used, v) {
					names = append(names, v)
				}
			}
		}
	}
	return names
}

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/otlp-relay/otlp-relay/internal/extension"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// effective is what the extension makes of an environment, as relayctl env shows it.
type effective struct {
	Settings     []row         `json:"settings"`
	Destinations []destination `json:"destinations"` // of every signal
	Unused       []string      `json:"unused"`       // variables about destinations that are set and not in force
	Warnings     []string      `json:"warnings"`
	Errors       []string      `json:"errors"`
}

// destination is the settings of one signal; none where it has no destination.
type destination struct {
	Signal   string `json:"signal"`
	Settings []row  `json:"settings"` // the endpoint first
	Error    string `json:"error,omitempty"`
}

// row is one setting. Its value holds no secret.
type row struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Source string `json:"source"` // a variable, "default", or what the value is derived from
}

// errWrongDestination makes relayctl env exit with 1.
var errWrongDestination = errors.New("a destination is wrong: its telemetry would be dropped")

// runEnv is relayctl env.
func runEnv(_ context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("env", flag.ContinueOnError)
	fs.SetOutput(out)
	fs.Usage = func() {
		fmt.Fprint(out, "Usage: relayctl env [--env-file FILE] [--json]\n\n"+
			"Shows what the extension makes of the environment that this runs in, or of a file: each setting in force, where its\n"+
			"value comes from, and what is wrong. Secrets are masked, and those kept elsewhere are not fetched.\n"+
			"The exit status is 1 where a destination is wrong.\n\nFlags:\n")
		fs.PrintDefaults()
	}
	path := fs.String("env-file", "", "read the variables from a `file` of KEY=VALUE lines instead")
	asJSON := fs.Bool("json", false, "write JSON")
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil:
		return usageError{err}
	case fs.NArg() > 0:
		return misuse("relayctl env takes no arguments, but %q was given", fs.Arg(0))
	}
	environ := os.Environ()
	if *path != "" {
		var err error
		if environ, err = readEnvFile(*path); err != nil {
			return err
		}
	}
	e := explain(environ, *path == "")
	if err := e.write(out, *asJSON); err != nil {
		return err
	}
	if len(e.Errors) > 0 {
		return errWrongDestination
	}
	return nil
}

// readEnvFile reads KEY=VALUE lines as docker does: no quoting, lines with # in front are comments. A shell's export
// is left out.
func readEnvFile(path string) (environ []string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, misuse("--env-file: %w", err)
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for n := 1; s.Scan(); n++ {
		line := strings.TrimLeft(s.Text(), " \t")
		line = strings.TrimLeft(strings.TrimPrefix(line, "export "), " \t")
		switch {
		case line == "" || line[0] == '#':
		case strings.Contains(line, "="):
			environ = append(environ, line)
		default: // not the line itself, which may be a secret
			return nil, misuse("--env-file %s: line %d is not KEY=VALUE", path, n)
		}
	}
	return environ, s.Err()
}

// explain finds out what the extension makes of environ. here says whether that is the environment of this process:
// only then must the files that it names be there.
func explain(environ []string, here bool) effective {
	cfg := extension.ParseConfig("otlp-relay", environ)
	vars := byName(environ)
	e := effective{Settings: settingRows(&cfg, vars), Unused: unused(&cfg, vars), Warnings: cfg.Warnings}
	errs := cfg.Check()
	some := slices.ContainsFunc(cfg.Destinations[:], func(d extension.Destination) bool { return d.Err == nil })
	for _, sig := range otlp.Signals() {
		d := destination{Signal: sig.String()}
		if err := cfg.Destinations[sig].Err; err != nil {
			d.Error = err.Error()
			if !some || err != extension.ErrNoEndpoint { // one signal without any may well be meant
				e.Errors = appendNew(e.Errors, d.Error)
			}
		} else {
			d.Settings = destinationRows(&cfg, sig, vars)
		}
		e.Destinations = append(e.Destinations, d)
		switch err := errs[sig]; {
		case err != nil && here:
			e.Errors = appendNew(e.Errors, err.Error())
		case err != nil:
			e.Warnings = appendNew(e.Warnings, "on this machine: "+err.Error())
		}
	}
	return e
}

// write prints e for people, or as JSON.
func (e effective) write(out io.Writer, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(e)
	}
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprint(w, "OTLP_RELAY_…\n")
	for _, r := range e.Settings {
		r.write(w)
	}
	for i := 0; i < len(e.Destinations); {
		i += writeAlike(w, e.Destinations[i:])
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, list := range []struct {
		title string
		lines []string
	}{{"set, but not used", e.Unused}, {"warnings", e.Warnings}, {"errors", e.Errors}} {
		if len(list.lines) > 0 {
			fmt.Fprintf(out, "\n%s\n", list.title)
		}
		for _, l := range list.lines {
			fmt.Fprintf(out, "  %s\n", l)
		}
	}
	return nil
}

func (r row) write(w io.Writer) {
	if r.Value == "" {
		r.Value = "–"
	}
	fmt.Fprintf(w, "  %s\t%s\t%s\n", r.Name, r.Value, r.Source)
}

// writeAlike prints the first destinations, as many as differ in their endpoint alone, and says how many.
func writeAlike(w io.Writer, all []destination) (n int) {
	first := all[0]
	var signals []string
	for ; n < len(all) && first.like(all[n]); n++ {
		signals = append(signals, all[n].Signal)
	}
	fmt.Fprintf(w, "\n%s\n", strings.Join(signals, ", "))
	if first.Error != "" {
		fmt.Fprintf(w, "  none: %s\n", first.Error)
		return n
	}
	for i, d := range all[:n] {
		if i == 0 || d.Settings[0] != first.Settings[0] { // gRPC has one address for all
			d.Settings[0].write(w)
		}
	}
	for _, r := range first.Settings[1:] {
		r.write(w)
	}
	return n
}

// like says whether two destinations differ in their endpoints' values at most.
func (d destination) like(o destination) bool {
	if d.Error != "" || o.Error != "" {
		return d.Error == o.Error
	}
	return d.Settings[0].Source == o.Settings[0].Source && slices.Equal(d.Settings[1:], o.Settings[1:])
}

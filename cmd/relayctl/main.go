// Command relayctl is the user's and the developer's tool around the OTLP relay: it runs extensions and
// functions in an emulated Lambda.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"syscall"
)

// command is one subcommand. run writes results to out; its error is printed by main.
type command struct {
	summary string
	run     func(ctx context.Context, args []string, out io.Writer) error
}

func commands() map[string]command {
	return map[string]command{
		"demo":  {"run an instrumented function through an outage and a timeout, and account for every record", runDemo},
		"env":   {"show the extension's settings, where they come from, and what is wrong with them", runEnv},
		"layer": {"pack a built extension into a Lambda layer", runLayer},
		"sim":   {"run an extension and a function in an emulated Lambda", runSim},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := dispatch(ctx, os.Args[1:], os.Stdout)
	stop()
	var misuse usageError
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
	case errors.As(err, &misuse):
		fmt.Fprintln(os.Stderr, "relayctl:", err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "relayctl:", err)
		os.Exit(1)
	}
}

// usageError is a mistake on the command line: exit status 2.
type usageError struct{ error }

func misuse(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// dispatch runs the subcommand that args begin with.
func dispatch(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		help(out)
		return misuse("name a command")
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		help(out)
		return nil
	}
	cmd, ok := commands()[args[0]]
	if !ok {
		return misuse("there is no command %q: see relayctl help", args[0])
	}
	return cmd.run(ctx, args[1:], out)
}

func help(out io.Writer) {
	fmt.Fprint(out, "Usage: relayctl COMMAND [FLAGS]\n\nCommands:\n")
	all := commands()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(out, "  %-8s %s\n", name, all[name].summary)
	}
	fmt.Fprint(out, "\nrelayctl COMMAND --help lists a command's flags.\n")
}

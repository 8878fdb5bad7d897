package layer_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// shells are the sh that are here; a layer meets bash (AL2023), busybox and dash (container images).
func shells(t *testing.T) map[string][]string {
	found := map[string][]string{}
	for _, shell := range [][]string{{"sh"}, {"dash"}, {"bash"}, {"bash", "--posix"}, {"busybox", "sh"}, {"mksh"}, {"ksh"}} {
		if path, err := exec.LookPath(shell[0]); err == nil {
			found[strings.Join(shell, " ")] = append([]string{path}, shell[1:]...)
		}
	}
	if len(found) == 0 {
		t.Fatal("no POSIX shell found")
	}
	return found
}

// run runs the wrapper under a shell with set -u, with env as its whole environment and the given command.
func run(t *testing.T, shell, env []string, command ...string) (stdout, stderr string) {
	t.Helper()
	args := slices.Concat(shell[1:], []string{"-u", "otlp-relay-exec"}, command)
	cmd := exec.Command(shell[0], args...)
	var out, complaint bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = append([]string{"PATH=" + os.Getenv("PATH")}, env...), &out, &complaint
	if err := cmd.Run(); err != nil {
		t.Errorf("run the wrapper: %v: %s", err, &complaint)
	}
	return out.String(), complaint.String()
}

// otelVariables are the variables of the SDK and of ours in the output of env, sorted.
func otelVariables(env string) []string {
	var all []string
	for line := range strings.Lines(env) {
		if strings.HasPrefix(line, "OT") || strings.HasPrefix(line, "otlp_relay") {
			all = append(all, strings.TrimSuffix(line, "\n"))
		}
	}
	slices.Sort(all)
	return all
}

func TestEnvironment(t *testing.T) {
	const base = "OTEL_EXPORTER_OTLP_"
	toUs := []string{base + "ENDPOINT=http://localhost:4318", base + "PROTOCOL=http/protobuf"}
	grpcToUs := []string{base + "ENDPOINT=http://localhost:4318", base + "PROTOCOL=grpc"}
	tests := []struct {
		name      string
		env, want []string
	}{
		{"nothing set", nil, toUs},
		{"backend", []string{base + "ENDPOINT=https://otlp.example.com"}, toUs},
		{"empty means unset", []string{base + "ENDPOINT=", base + "PROTOCOL="}, toUs},
		{"everything", everything(), append([]string{
			base + "TIMEOUT=1000", base + "TRACES_TIMEOUT=1000", base + "METRICS_TIMEOUT=1000", base + "LOGS_TIMEOUT=1000",
			base + "PROFILES_TIMEOUT=1000", base + "TRACES_PROTOCOL=grpc", base + "METRICS_PROTOCOL=grpc", base + "LOGS_PROTOCOL=grpc",
			base + "PROFILES_PROTOCOL=grpc"}, grpcToUs...)},
		{"grpc stays", []string{base + "ENDPOINT=https://otlp.example.com:4317", base + "PROTOCOL=grpc"}, grpcToUs},
		{"grpc of ours", []string{base + "ENDPOINT=http://localhost:4317", base + "PROTOCOL=grpc"}, grpcToUs},
		{"json stays", []string{base + "PROTOCOL=http/json"}, []string{base + "ENDPOINT=http://localhost:4318", base + "PROTOCOL=http/json"}},
		{"in any case", []string{base + "PROTOCOL=HTTP/Json"}, []string{base + "ENDPOINT=http://localhost:4318", base + "PROTOCOL=HTTP/Json"}},
		{"unknown protocol", []string{base + "PROTOCOL=carrier-pigeon"}, toUs},
		{"a signal's own", []string{base + "TRACES_ENDPOINT=https://x/v1/traces", base + "LOGS_PROTOCOL=http/json", base + "METRICS_PROTOCOL=x"},
			append([]string{base + "LOGS_PROTOCOL=http/json"}, toUs...)},
		{"already ours", []string{base + "ENDPOINT=http://127.0.0.1:4318/", base + "HEADERS=k=v"},
			[]string{base + "ENDPOINT=http://127.0.0.1:4318/", base + "PROTOCOL=http/protobuf"}},
		{"already ours, v6", []string{base + "ENDPOINT=http://[::1]:4318"}, []string{base + "ENDPOINT=http://[::1]:4318", base + "PROTOCOL=http/protobuf"}},
		{"https is not ours", []string{base + "ENDPOINT=https://localhost:4318"}, toUs},
		{"another port", []string{"OTLP_RELAY_HTTP_ADDR=127.0.0.1:5318", base + "ENDPOINT=http://localhost:4318"},
			[]string{base + "ENDPOINT=http://localhost:5318", base + "PROTOCOL=http/protobuf", "OTLP_RELAY_HTTP_ADDR=127.0.0.1:5318"}},
		{"port alone", []string{"OTLP_RELAY_HTTP_ADDR=:5318"},
			[]string{base + "ENDPOINT=http://localhost:5318", base + "PROTOCOL=http/protobuf", "OTLP_RELAY_HTTP_ADDR=:5318"}},
		{"no port", []string{"OTLP_RELAY_HTTP_ADDR=localhost"}, append([]string{"OTLP_RELAY_HTTP_ADDR=localhost"}, toUs...)},
		{"others stay", []string{"OTEL_SERVICE_NAME=a b", "OTLP_RELAY_ENDPOINT=https://x", "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=delta"},
			append([]string{"OTEL_SERVICE_NAME=a b", "OTLP_RELAY_ENDPOINT=https://x", "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=delta"}, toUs...)},
		{"nothing is evaluated", []string{base + "TRACES_PROTOCOL=$(touch evaluated)", base + "ENDPOINT=`touch evaluated`"}, toUs},
	}
	for shellName, shell := range shells(t) {
		for _, tt := range tests {
			t.Run(shellName+"/"+tt.name, func(t *testing.T) {
				slices.Sort(tt.want)
				out, complaint := run(t, shell, tt.env, "env")
				if got := otelVariables(out); !slices.Equal(got, tt.want) {
					t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
				}
				if complaint != "" {
					t.Errorf("stderr %q", complaint)
				}
			})
		}
	}
	if _, err := os.Stat("evaluated"); err == nil {
		os.Remove("evaluated")
		t.Error("a value was evaluated as a command")
	}
}

// Where the function has a proxy, the SDK does not go to it for localhost, and what else is exempt stays so.
func TestProxy(t *testing.T) {
	const proxy, us = "http_proxy=http://proxy:3128", "localhost,127.0.0.1"
	tests := []struct {
		name      string
		env, want []string
	}{
		{"no proxy", nil, []string{"NO_PROXY=" + us, "no_proxy=" + us}},
		{"a proxy", []string{proxy}, []string{"NO_PROXY=" + us, proxy, "no_proxy=" + us}},
		{"one spelling", []string{"NO_PROXY=a.b, *.c"}, []string{"NO_PROXY=a.b, *.c," + us, "no_proxy=a.b, *.c," + us}},
		{"the other", []string{"no_proxy=.b"}, []string{"NO_PROXY=.b," + us, "no_proxy=.b," + us}},
		{"both", []string{"no_proxy=a", "NO_PROXY=localhost"}, []string{"NO_PROXY=localhost", "no_proxy=a," + us}},
		{"everything", []string{"NO_PROXY=*"}, []string{"NO_PROXY=*", "no_proxy=*"}},
		{"gRPC's own", []string{"no_proxy=*", "no_grpc_proxy=a"}, []string{"NO_PROXY=*", "no_grpc_proxy=a," + us, "no_proxy=*"}},
		{"nothing is evaluated", []string{"no_proxy=$(echo a)"}, []string{"NO_PROXY=$(echo a)," + us, "no_proxy=$(echo a)," + us}},
	}
	for shellName, shell := range shells(t) {
		for _, tt := range tests {
			t.Run(shellName+"/"+tt.name, func(t *testing.T) {
				out, complaint := run(t, shell, tt.env, "env")
				var got []string
				for line := range strings.Lines(out) {
					if name, _, _ := strings.Cut(line, "="); strings.HasSuffix(strings.ToLower(name), "_proxy") {
						got = append(got, strings.TrimSuffix(line, "\n"))
					}
				}
				if slices.Sort(got); !slices.Equal(got, tt.want) || complaint != "" {
					t.Errorf("got %q, want %q; stderr %q", got, tt.want, complaint)
				}
			})
		}
	}
}

// everything is each variable of the exporter specification, for all signals at once and for each.
func everything() []string {
	var env []string
	for _, signal := range []string{"", "TRACES_", "METRICS_", "LOGS_", "PROFILES_"} {
		for name, value := range map[string]string{
			"ENDPOINT": "https://otlp.example.com", "HEADERS": "api-key=secret", "CERTIFICATE": "/opt/ca.pem",
			"CLIENT_CERTIFICATE": "/opt/c.pem", "CLIENT_KEY": "/opt/k.pem", "COMPRESSION": "gzip", "INSECURE": "false",
			"PROTOCOL": "grpc", "TIMEOUT": "1000",
		} {
			env = append(env, "OTEL_EXPORTER_OTLP_"+signal+name+"="+value)
		}
	}
	return env
}

func TestCommand(t *testing.T) {
	dir := t.TempDir()
	script := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// The next wrapper has a blank in its name, and says that it ran and with what.
	next := script("next wrapper", "#!/bin/sh\necho \"next $OTEL_EXPORTER_OTLP_ENDPOINT ${OTLP_RELAY_EXEC_WRAPPER-unset}\"\nexec \"$@\"\n", 0o755)
	this, err := filepath.Abs("otlp-relay-exec")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, next string
		ran        bool
		complaint  string
	}{
		{"none", "", false, ""},
		{"a further wrapper", next, true, ""},
		{"missing", filepath.Join(dir, "none"), false, "is not an executable file"},
		{"not executable", script("plain", "#!/bin/sh\nexit 9\n", 0o644), false, "is not an executable file"},
		{"a folder", dir, false, "is not an executable file"},
		{"no interpreter", script("broken", "#!/no/such/interpreter\n", 0o755), false, "broken"},
		{"itself", this, false, ""},
	}
	for shellName, shell := range shells(t) {
		for _, tt := range tests {
			t.Run(shellName+"/"+tt.name, func(t *testing.T) {
				out, complaint := run(t, shell, []string{"OTLP_RELAY_EXEC_WRAPPER=" + tt.next}, "printf", `<%s>\n`, "a  b", "", `*"$x`, "-n")
				want := "<a  b>\n<>\n<*\"$x>\n<-n>\n"
				if tt.ran {
					want = "next http://localhost:4318 unset\n" + want
				}
				if out != want {
					t.Errorf("stdout %q, want %q", out, want)
				}
				if lines := strings.Count(complaint, "\n"); !strings.Contains(complaint, tt.complaint) || tt.complaint == "" && lines != 0 || lines > 1 {
					t.Errorf("stderr %q, want %q", complaint, tt.complaint)
				}
			})
		}
	}
}

// Lambda itself runs the file by its #! line.
func TestRunsAsAProgram(t *testing.T) {
	cmd := exec.Command("./otlp-relay-exec", "sh", "-c", "exit 7")
	if cmd.Run(); cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("exit status %d, want the command's own", cmd.ProcessState.ExitCode())
	}
}

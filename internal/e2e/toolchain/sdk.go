package toolchain

import (
	"path/filepath"
	"strings"

	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
)

// SDK is one of the examples, with a protocol that its SDK speaks.
type SDK struct {
	Language string // of the example, which is the name of its tool, too; go has none
	Protocol string // OTEL_EXPORTER_OTLP_PROTOCOL
	Sender   string // Java has two clients for HTTP: "" for OkHttp, "jdk"
}

// SDKs are all of them.
func SDKs() []SDK {
	return []SDK{
		{"go", "http/protobuf", ""},
		{"go", "http/json", ""}, // of traces; the others stay protobuf
		{"go", "grpc", ""},
		{"python", "http/protobuf", ""},
		{"python", "http/json", ""},
		{"python", "grpc", ""},
		{"node", "http/protobuf", ""},
		{"node", "http/json", ""},
		{"node", "grpc", ""},
		{"java", "http/protobuf", ""},
		{"java", "http/protobuf", "jdk"},
		{"java", "grpc", ""},
	}
}

func (s SDK) String() string {
	return strings.TrimSuffix(s.Language+" "+s.Protocol+" "+s.Sender, " ")
}

// Set makes cfg run the example on Lambda's official runtime for its language; tool is what Dir or Need answered.
// For go there is nothing to set: its function is a program.
func (s SDK) Set(cfg *lambdasim.Config, tool string) {
	switch s.Language {
	case "python":
		cfg.Handler = "handler.handle"
		cfg.TaskRoot = filepath.Join(tool, "..", "..", "..", "examples", "python")
		cfg.Function = []string{filepath.Join(tool, "bin", "python3"), "-m", "awslambdaric", cfg.Handler}
		cfg.Env["PYTHONDONTWRITEBYTECODE"] = "1"               // /var/task is read-only, too
		cfg.Env["AWS_EXECUTION_ENV"] = "AWS_Lambda_python3.13" // from 3.12 on a function hears SIGTERM
	case "node":
		cfg.Handler = "index.handler"
		cfg.TaskRoot = filepath.Join(tool, "function")
		cfg.Function = []string{filepath.Join(tool, "runtime", "node"), filepath.Join(tool, "runtime", "node_modules", "aws-lambda-ric", "index.mjs")}
	case "java":
		cfg.Handler = "example.Handler::handleRequest"
		cfg.TaskRoot = filepath.Join(tool, "function")
		classes := []string{filepath.Join(tool, "function", "target", "function.jar"), filepath.Join(tool, "runtime", "*")}
		cfg.Function = []string{"java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"} // as Lambda starts it
		if s.Sender == "jdk" {
			classes = append(classes, filepath.Join(tool, "sender", "*"))
			cfg.Function = append(cfg.Function, "-Dio.opentelemetry.sdk.common.export.HttpSenderProvider="+
				"io.opentelemetry.exporter.sender.jdk.internal.JdkHttpSenderProvider")
		}
		cfg.Function = append(cfg.Function, "-cp", strings.Join(classes, ":"),
			"com.amazonaws.services.lambda.runtime.api.client.AWSLambda", cfg.Handler)
	}
}

// Package layer holds what lands in /opt beside the extension's binary.
package layer

import _ "embed"

// ExecWrapper is the script for AWS_LAMBDA_EXEC_WRAPPER, /opt/otlp-relay-exec.
//
//go:embed otlp-relay-exec
var ExecWrapper string

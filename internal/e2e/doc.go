// Package e2e tests the chain on the built binaries: a real function with the real OpenTelemetry SDK, the real
// extension, an emulated Lambda, and a backend that decodes with the official types. It also keeps the house
// rules that a program can check.
package e2e

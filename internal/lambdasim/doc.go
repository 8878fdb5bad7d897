// Package lambdasim runs a real extension binary and a real function process in an emulated Lambda execution
// environment: the Runtime API (2018-06-01), the Extensions API (2020-01-01) and the Telemetry API
// (2022-07-01) on one loopback listener, around processes that are started, frozen, thawed, timed out, reset
// and shut down in the order and with the time limits that AWS documents and that its open-source emulator
// shows. Every step is recorded with its time, so that a test, a benchmark or a picture can be made of it.
//
// Emulated:
//
//   - the init phase: all extensions are started and must register before the runtime starts; its first next,
//     then every extension's next, end it; 10 s limit; a failed init is repeated inside the next invocation;
//   - the invoke phase: INVOKE reaches the extensions before the runtime; it ends when the runtime and all
//     extensions that subscribed to INVOKE asked for the next event; the function's timeout covers both;
//   - the freeze in between: no thread runs, and the platform's own telemetry waits too;
//   - the end: SIGTERM for the runtime and its share of the window, SHUTDOWN with its deadline for the
//     extensions, SIGKILL for what is left; after a timeout or a crash the next invocation starts with an
//     init of its own;
//   - telemetry: platform, function and extension events, batched as the subscription says, repeated until
//     the listener answers 2xx; late subscribers get the init phase's events too; an invocation's
//     platform.report leaves during the next one;
//   - the environment variables each side sees; as root, the CPU share of a memory size; Managed Instances.
//
// Not emulated: the time it takes to load pages of a layer from disk, memory limits, users and namespaces
// (processes see the machine's files and network), the CPU boost of a normal init, the Logs API, telemetry
// over TCP and platform.logsDropped, SnapStart, streaming to the client before the response is complete. The
// network is loopback: it costs microseconds and loses nothing. The emulator shares the machine's cores with
// what it measures.
//
// Times are taken where a request arrives, not where the emulator acts on it. Linux only.
package lambdasim

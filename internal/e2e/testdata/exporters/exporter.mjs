// Makes a record of the signal that each line of its input names, and flushes it; then it says so.
//
// It is examples/node's SDK, in the folder that FUNCTION names.
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';

const folder = process.env.FUNCTION + '/';
await import(folder + 'telemetry.mjs');
const { logs, metrics, trace } = createRequire(folder)('@opentelemetry/api');

const calls = metrics.getMeter('conformance').createCounter('calls');
const record = {
  traces: () => trace.getTracer('conformance').startSpan('GET /orders').end(),
  metrics: () => calls.add(1),
  logs: () => logs.getLogger('conformance').emit({ body: 'order taken' }),
};
const providers = { traces: trace.getTracerProvider().getDelegate(), metrics: metrics.getMeterProvider(), logs: logs.getLoggerProvider() };

for await (const signal of createInterface({ input: process.stdin })) {
  record[signal]();
  await providers[signal].forceFlush().catch(() => {}); // it rejects where the request was refused for good
  console.log('flushed');
}
process.exit(0);

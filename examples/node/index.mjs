// A Lambda function in Node.js with OpenTelemetry traces, metrics and logs, to be copied.
//
// Set AWS_LAMBDA_EXEC_WRAPPER=/opt/otlp-relay-exec, and OTEL_EXPORTER_OTLP_ENDPOINT to your backend.
//
// The function plays at handling an order in steps. telemetry.mjs is the part that every function needs.
import { setTimeout as sleep } from 'node:timers/promises';
import { logs, metrics, SeverityNumber, SpanKind, trace } from '@opentelemetry/api';
import { flush } from './telemetry.mjs';

const scope = 'example.com/orders'; // names this instrumentation in the backend
const tracer = trace.getTracer(scope);
const logger = logs.getLogger(scope);
const meter = metrics.getMeter(scope);
const orders = meter.createCounter('orders.handled', { unit: '{order}' });
const duration = meter.createHistogram('orders.duration', { unit: 's' });
let cold = true;

/** The Lambda handler: one root span an invocation, and a flush at its end. */
export async function handler(order, context) {
  const begin = performance.now();
  const attributes = {
    'faas.coldstart': cold,
    'faas.invocation_id': context.awsRequestId,
    'cloud.resource_id': context.invokedFunctionArn,
  };
  cold = false;
  const traceId = await tracer.startActiveSpan(
    context.functionName, { kind: SpanKind.SERVER, root: true, attributes }, async (root) => {
      try {
        log('order received', order);
        for (let n = 1; n <= order.spans; n++) await step(n, order);
        if (order.hang && !order.flush_first) await sleep(3_600_000);
        orders.add(1);
        duration.record((performance.now() - begin) / 1000);
        return root.spanContext().traceId;
      } finally {
        root.end();
      }
    });

  const beginFlush = performance.now();
  await flush();
  const flushMs = performance.now() - beginFlush;

  if (order.late) tracer.startSpan('late').end(); // to see that what comes after the flush leaves at the end
  if (order.hang) await sleep(3_600_000); // to see what a timeout does
  return {
    id: order.id,
    trace_id: traceId,
    spans: 1 + order.spans, // the root span, and one a step
    logs: 1 + order.spans, // "order received", and one a step
    points: 2, // two instruments of one series each
    flush_ms: flushMs,
  };
}

/** One piece of the work, in a span of its own. */
function step(n, order) {
  return tracer.startActiveSpan(`step ${n}`, { attributes: { 'order.id': order.id } }, async (span) => {
    try {
      await sleep((order.work_ms ?? 0) / order.spans);
      log(`step ${n} done`, order);
    } finally {
      span.end();
    }
  });
}

/** Emits a log record; it carries the ids of the current span. */
function log(message, order) {
  logger.emit({
    timestamp: new Date(),
    severityNumber: SeverityNumber.INFO,
    severityText: 'INFO',
    body: message,
    attributes: { 'order.id': order.id },
  });
}

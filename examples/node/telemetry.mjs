// The OpenTelemetry SDK of a Lambda function: the part that every function needs. It is made once, while the
// environment initialises, and serves every invocation: exporters keep their connections to the extension open.
import { logs, metrics, trace } from '@opentelemetry/api';
import { defaultResource, envDetector, resourceFromAttributes } from '@opentelemetry/resources';
import { NodeSDK } from '@opentelemetry/sdk-node';

const env = process.env;

// The SDK follows the OTEL_* variables: where it sends to, by which protocol, and OTEL_RESOURCE_ATTRIBUTES.
const sdk = new NodeSDK({
  resource: defaultResource().merge(resourceFromAttributes({
    'service.name': env.AWS_LAMBDA_FUNCTION_NAME,
    'cloud.provider': 'aws',
    'cloud.platform': 'aws_lambda',
    'cloud.region': env.AWS_REGION,
    'faas.name': env.AWS_LAMBDA_FUNCTION_NAME,
    'faas.version': env.AWS_LAMBDA_FUNCTION_VERSION,
    'faas.instance': env.AWS_LAMBDA_LOG_STREAM_NAME, // tells one environment from another
    'faas.max_memory': Number(env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE) * 2 ** 20,
  })),
  resourceDetectors: [envDetector], // those of the host and the process tell a function little, and take time
});
sdk.start();

const providers = [trace.getTracerProvider(), metrics.getMeterProvider(), logs.getLoggerProvider()];

/**
 * Hands everything to the extension. Once the handler has returned, Lambda may freeze this process for hours or end
 * it, with whatever the SDK still holds: so flush at the end of each invocation. It is a hop to localhost, and the
 * three signals go at the same time.
 */
export async function flush() {
  // Behind the API's tracer provider is the SDK's; with OTEL_SDK_DISABLED there is none.
  const results = await Promise.allSettled(providers.map((p) => (p.getDelegate?.() ?? p).forceFlush?.()));
  for (const { reason } of results.filter((r) => r.status === 'rejected')) {
    console.error('flush telemetry:', reason); // which must not fail the function
  }
}

// Lambda ends the environment: what was made after the last flush leaves now.
process.on('SIGTERM', async () => {
  await flush();
  process.kill(process.pid, 'SIGKILL'); // process.exit() would wait for the runtime's next invocation
});

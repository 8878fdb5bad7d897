package example;

import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.logs.Logger;
import io.opentelemetry.api.metrics.Meter;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.sdk.OpenTelemetrySdk;
import io.opentelemetry.sdk.autoconfigure.AutoConfiguredOpenTelemetrySdk;
import io.opentelemetry.sdk.common.CompletableResultCode;
import io.opentelemetry.sdk.metrics.Aggregation;
import io.opentelemetry.sdk.metrics.InstrumentSelector;
import io.opentelemetry.sdk.metrics.SdkMeterProviderBuilder;
import io.opentelemetry.sdk.metrics.View;
import io.opentelemetry.sdk.resources.Resource;
import java.util.List;
import java.util.concurrent.TimeUnit;

/**
 * The OpenTelemetry SDK of a Lambda function: the part that every function needs. It is made once, while the
 * environment initialises, and serves every invocation: exporters keep their connection to the extension open.
 *
 * <p>It follows the OTEL_* variables. When Lambda ends the environment with SIGTERM, the SDK's own shutdown hook
 * hands over what was made after the last flush.
 */
final class Telemetry {
  private final OpenTelemetrySdk sdk =
      AutoConfiguredOpenTelemetrySdk.builder()
          .addResourceCustomizer((fromVariables, config) -> describeFunction().merge(fromVariables))
          .addMeterProviderCustomizer((provider, config) -> leaveOutTheSdk(provider))
          .setResultAsGlobal() // for instrumentation libraries
          .build()
          .getOpenTelemetrySdk();

  Tracer tracer(String scope) {
    return sdk.getTracer(scope);
  }

  Logger logger(String scope) {
    return sdk.getLogsBridge().get(scope);
  }

  Meter meter(String scope) {
    return sdk.getMeter(scope);
  }

  /**
   * Hands everything to the extension. Once the handler has returned, Lambda may freeze this process for hours or
   * end it, with whatever the SDK still holds: so flush at the end of each invocation. It is a hop to localhost, and
   * the three signals go at the same time.
   */
  void flush() {
    CompletableResultCode.ofAll(
            List.of(
                sdk.getSdkTracerProvider().forceFlush(),
                sdk.getSdkMeterProvider().forceFlush(),
                sdk.getSdkLoggerProvider().forceFlush()))
        .join(5, TimeUnit.SECONDS);
  }

  private static Resource describeFunction() {
    return Resource.create(
        Attributes.builder()
            .put("service.name", env("AWS_LAMBDA_FUNCTION_NAME"))
            .put("cloud.provider", "aws")
            .put("cloud.platform", "aws_lambda")
            .put("cloud.region", env("AWS_REGION"))
            .put("faas.name", env("AWS_LAMBDA_FUNCTION_NAME"))
            .put("faas.version", env("AWS_LAMBDA_FUNCTION_VERSION"))
            .put("faas.instance", env("AWS_LAMBDA_LOG_STREAM_NAME")) // tells one environment from another
            .put("faas.max_memory", Long.parseLong("0" + env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")) << 20)
            .build());
  }

  private static String env(String name) {
    return System.getenv().getOrDefault(name, "");
  }

  /** Leaves out what the SDK measures about itself: with each flush it would be several times the function's own. */
  private static SdkMeterProviderBuilder leaveOutTheSdk(SdkMeterProviderBuilder provider) {
    View drop = View.builder().setAggregation(Aggregation.drop()).build();
    return provider
        .registerView(InstrumentSelector.builder().setMeterName("io.opentelemetry.sdk.trace").build(), drop)
        .registerView(InstrumentSelector.builder().setMeterName("io.opentelemetry.sdk.logs").build(), drop)
        .registerView(InstrumentSelector.builder().setName("otlp.exporter.*").build(), drop);
  }
}

package example;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.logs.Logger;
import io.opentelemetry.api.logs.Severity;
import io.opentelemetry.api.metrics.DoubleHistogram;
import io.opentelemetry.api.metrics.LongCounter;
import io.opentelemetry.api.metrics.Meter;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.context.Scope;

/**
 * A Lambda function in Java with OpenTelemetry traces, metrics and logs, to be copied.
 *
 * <p>Set AWS_LAMBDA_EXEC_WRAPPER=/opt/otlp-relay-exec, and OTEL_EXPORTER_OTLP_ENDPOINT to your backend.
 *
 * <p>The function plays at handling an order in steps. Telemetry is the part that every function needs.
 */
public final class Handler implements RequestHandler<Handler.Order, Handler.Receipt> {
  private static final String SCOPE = "example.com/orders"; // names this instrumentation in the backend
  private static final AttributeKey<String> ORDER_ID = AttributeKey.stringKey("order.id");

  /** The event. */
  public static final class Order {
    public String id;
    public int spans; // steps to take, a child span each
    public int work_ms; // that the steps take, all together
    public boolean hang; // to see what a timeout does: hang until Lambda ends the function,
    public boolean flush_first; // before or after the telemetry is flushed
    public boolean late; // to see that what comes after the flush leaves when the environment ends
  }

  /** The response: how much telemetry the invocation made, and what its flush took. */
  public static final class Receipt {
    public String id;
    public String trace_id;
    public int spans;
    public int logs;
    public int points;
    public double flush_ms;
  }

  private final Telemetry telemetry = new Telemetry();
  private final Tracer tracer = telemetry.tracer(SCOPE);
  private final Logger logger = telemetry.logger(SCOPE);
  private final LongCounter orders;
  private final DoubleHistogram duration;
  private boolean cold = true;

  public Handler() {
    Meter meter = telemetry.meter(SCOPE);
    orders = meter.counterBuilder("orders.handled").setUnit("{order}").build();
    duration = meter.histogramBuilder("orders.duration").setUnit("s").build();
  }

  /** One root span an invocation, and a flush at its end. */
  @Override
  public Receipt handleRequest(Order order, Context context) {
    long begin = System.nanoTime();
    Span root = startRoot(context);
    try (Scope current = root.makeCurrent()) {
      log("order received", order);
      for (int i = 1; i <= order.spans; i++) {
        step(i, order);
      }
      if (order.hang && !order.flush_first) {
        sleep(3_600_000);
      }
      orders.add(1);
      duration.record((System.nanoTime() - begin) / 1e9);
    } finally {
      root.end();
    }

    long flush = System.nanoTime();
    telemetry.flush();
    double flushMs = (System.nanoTime() - flush) / 1e6;

    if (order.late) {
      tracer.spanBuilder("late").startSpan().end();
    }
    if (order.hang) {
      sleep(3_600_000);
    }
    Receipt receipt = new Receipt();
    receipt.id = order.id;
    receipt.trace_id = root.getSpanContext().getTraceId();
    receipt.spans = 1 + order.spans; // the root span, and one a step
    receipt.logs = 1 + order.spans; // "order received", and one a step
    receipt.points = 2; // two instruments of one series each
    receipt.flush_ms = flushMs;
    return receipt;
  }

  /** Starts the invocation's span, as the semantic conventions for functions have it. */
  private Span startRoot(Context context) {
    boolean first = cold;
    cold = false;
    return tracer
        .spanBuilder(context.getFunctionName())
        .setSpanKind(SpanKind.SERVER)
        .setNoParent()
        .setAttribute("faas.coldstart", first)
        .setAttribute("faas.invocation_id", context.getAwsRequestId())
        .setAttribute("cloud.resource_id", context.getInvokedFunctionArn())
        .startSpan();
  }

  /** One piece of the work, in a span of its own. */
  private void step(int number, Order order) {
    Span span = tracer.spanBuilder("step " + number).setAttribute(ORDER_ID, order.id).startSpan();
    try (Scope current = span.makeCurrent()) {
      sleep(order.work_ms / order.spans);
      log("step " + number + " done", order);
    } finally {
      span.end();
    }
  }

  /** Emits a log record; it carries the ids of the current span. */
  private void log(String message, Order order) {
    logger
        .logRecordBuilder()
        .setSeverity(Severity.INFO)
        .setSeverityText("INFO")
        .setBody(message)
        .setAttribute(ORDER_ID, order.id)
        .emit();
  }

  private static void sleep(long milliseconds) {
    try {
      Thread.sleep(milliseconds);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }
}

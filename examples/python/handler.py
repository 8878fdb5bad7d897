"""A Lambda function in Python with OpenTelemetry traces, metrics and logs, to be copied.

Set AWS_LAMBDA_EXEC_WRAPPER=/opt/otlp-relay-exec, and OTEL_EXPORTER_OTLP_ENDPOINT to your backend.

The function plays at handling an order in steps. telemetry.py is the part that every function needs.
"""

import time

from opentelemetry._logs import SeverityNumber
from opentelemetry.trace import SpanKind

from telemetry import Telemetry

SCOPE = "example.com/orders"  # names this instrumentation in the backend

telemetry = Telemetry()
tracer = telemetry.traces.get_tracer(SCOPE)
logger = telemetry.logs.get_logger(SCOPE)
meter = telemetry.metrics.get_meter(SCOPE)
orders = meter.create_counter("orders.handled", unit="{order}")
duration = meter.create_histogram("orders.duration", unit="s")
cold = True


def handle(order, context):
    """The Lambda handler: one root span an invocation, and a flush at its end."""
    begin = time.perf_counter()
    with start_root(context) as root:
        log("order received", order)
        for n in range(1, order["spans"] + 1):
            step(n, order)
        if order.get("hang") and not order.get("flush_first"):
            time.sleep(3600)
        orders.add(1)
        duration.record(time.perf_counter() - begin)

    flushed = time.perf_counter()
    telemetry.flush()
    flushed = time.perf_counter() - flushed

    if order.get("late"):  # to see that what comes after the flush leaves when the environment ends
        tracer.start_span("late").end()
    if order.get("hang"):  # to see what a timeout does
        time.sleep(3600)
    return {
        "id": order.get("id"),
        "trace_id": f"{root.get_span_context().trace_id:032x}",
        "spans": 1 + order["spans"],  # the root span, and one a step
        "logs": 1 + order["spans"],  # "order received", and one a step
        "points": 2,  # two instruments of one series each
        "flush_ms": flushed * 1000,
    }


def start_root(context):
    """Starts the invocation's span, as the semantic conventions for functions have it."""
    global cold
    attributes = {
        "faas.coldstart": cold,
        "faas.invocation_id": context.aws_request_id,
        "cloud.resource_id": context.invoked_function_arn,
    }
    cold = False
    return tracer.start_as_current_span(context.function_name, kind=SpanKind.SERVER, attributes=attributes)


def step(n, order):
    """One piece of the work, in a span of its own."""
    with tracer.start_as_current_span(f"step {n}", attributes={"order.id": order.get("id")}):
        time.sleep(order.get("work_ms", 0) / 1000 / order["spans"])
        log(f"step {n} done", order)


def log(message, order):
    """Emits a log record; it carries the ids of the current span."""
    logger.emit(
        timestamp=time.time_ns(),
        severity_number=SeverityNumber.INFO,
        severity_text="INFO",
        body=message,
        attributes={"order.id": order.get("id")},
    )

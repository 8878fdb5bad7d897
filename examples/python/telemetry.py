"""The OpenTelemetry SDK of a Lambda function: the part that every function needs.

It is made once, while the environment initialises, and serves every invocation: exporters keep their
connection to the extension open.
"""

import os
import signal
from importlib import import_module

from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

# Those of requirements.txt; one is enough.
EXPORTERS = {
    "http/protobuf": "opentelemetry.exporter.otlp.proto.http",
    "http/json": "opentelemetry.exporter.otlp.json.http",
    "grpc": "opentelemetry.exporter.otlp.proto.grpc",
}


class Telemetry:
    """The three providers. Where they send to comes from the OTEL_EXPORTER_OTLP_* variables."""

    def __init__(self):
        package = EXPORTERS[os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "http/protobuf"]
        spans = import_module(package + ".trace_exporter").OTLPSpanExporter()
        points = import_module(package + ".metric_exporter").OTLPMetricExporter()
        records = import_module(package + "._log_exporter").OTLPLogExporter()

        resource = describe_function()
        self.traces = TracerProvider(resource=resource)
        self.traces.add_span_processor(BatchSpanProcessor(spans))
        self.metrics = MeterProvider([PeriodicExportingMetricReader(points)], resource)
        self.logs = LoggerProvider(resource)
        self.logs.add_log_record_processor(BatchLogRecordProcessor(records))

        # For instrumentation libraries, which look for the SDK here.
        trace.set_tracer_provider(self.traces)
        metrics.set_meter_provider(self.metrics)
        _logs.set_logger_provider(self.logs)

        signal.signal(signal.SIGTERM, self._end)

    def flush(self):
        """Hands everything to the extension.

        Once the handler has returned, Lambda may freeze this process for hours or end it, with whatever the
        SDK still holds: so flush at the end of each invocation. It is a hop to localhost.
        """
        self.traces.force_flush()
        self.metrics.force_flush()
        self.logs.force_flush()

    def _end(self, *_):
        """Lambda ends the environment: what was made after the last flush leaves now."""
        self.flush()
        os._exit(0)  # sys.exit() would wait for the thread in which the runtime asks for the next invocation


def describe_function():
    env = os.environ.get
    function = Resource.create(
        {
            "service.name": env("AWS_LAMBDA_FUNCTION_NAME", ""),
            "cloud.provider": "aws",
            "cloud.platform": "aws_lambda",
            "cloud.region": env("AWS_REGION", ""),
            "faas.name": env("AWS_LAMBDA_FUNCTION_NAME", ""),
            "faas.version": env("AWS_LAMBDA_FUNCTION_VERSION", ""),
            "faas.instance": env("AWS_LAMBDA_LOG_STREAM_NAME", ""),  # tells one environment from another
            "faas.max_memory": int(env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "0")) << 20,
        }
    )
    return function.merge(OTELResourceDetector().detect())  # OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES

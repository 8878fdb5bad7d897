"""Makes a record of the signal that each line of its input names, and flushes it; then it says so.

It is examples/python's SDK: PYTHONPATH has that folder.
"""

import sys

from telemetry import Telemetry

telemetry = Telemetry()
calls = telemetry.metrics.get_meter("conformance").create_counter("calls")


def trace():
    telemetry.traces.get_tracer("conformance").start_span("GET /orders").end()
    telemetry.traces.force_flush()


def count():
    calls.add(1)
    telemetry.metrics.force_flush()


def log():
    telemetry.logs.get_logger("conformance").emit(body="order taken")
    telemetry.logs.force_flush()


for line in sys.stdin:
    {"traces": trace, "metrics": count, "logs": log}[line.strip()]()
    print("flushed", flush=True)

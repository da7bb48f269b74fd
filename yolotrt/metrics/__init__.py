"""What a run says of itself to Prometheus."""

from __future__ import annotations

from yolotrt.metrics.server import MetricsServer, parse_address

__all__ = ["MetricsServer", "parse_address"]

"""The endpoint that Prometheus scrapes."""

from __future__ import annotations

import re
from types import TracebackType
from typing import TYPE_CHECKING

from yolotrt.errors import MissingExtraError, SinkError, UsageError
from yolotrt.metrics.gpu import GpuMonitor
from yolotrt.sources.address import without_slips

if TYPE_CHECKING:
    from typing_extensions import Self

    from yolotrt.metrics.collector import CountsByStream, Streams

LOCALHOST = "127.0.0.1"


def parse_address(text: str, *, option: str) -> tuple[str, int]:
    """(host, port) from `PORT`, `HOST:PORT` or `[IPV6]:PORT`; this machine alone where no host is named.

    Port 0 takes one that is free. Raises UsageError for anything else; `option` is named in it.
    """
    found = re.fullmatch(r"(?:(\[[0-9a-fA-F:.]+\]|[^\[\]:]+):)?(\d{1,5})", text)
    if found is None or int(found[2]) > 65_535:
        raise UsageError(f"option {option} is no port", got=without_slips(repr(text)), expected="PORT or HOST:PORT")
    return (found[1] or LOCALHOST).strip("[]"), int(found[2])


class MetricsServer:
    """Serves `http://HOST:PORT/metrics` until it is closed; a context manager.

    Beside the metrics of the run come those of the process: memory, processor time, open files.

    Attributes:
        url: of the metrics.
    """

    def __init__(self, address: tuple[str, int], streams: Streams, *, counts: CountsByStream | None = None) -> None:
        """Start to serve.

        Args:
            address: host and port; port 0 takes one that is free.
            streams: gives a snapshot of each stream.
            counts: gives the counts by stream, where anything is counted.

        Raises:
            MissingExtraError: prometheus-client is not installed.
            SinkError: the port is taken or may not be used.
        """
        try:
            from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
        except ImportError as e:
            raise MissingExtraError("prometheus-client", "metrics", needed_for="serving metrics") from e
        from yolotrt.metrics.collector import RunCollector

        registry = CollectorRegistry()
        self._gpus = GpuMonitor()
        registry.register(RunCollector(streams, counts=counts, gpus=self._gpus))
        ProcessCollector(registry=registry)
        host, port = address
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except (OSError, UnicodeError) as e:  # UnicodeError: no host can have that name
            self._gpus.close()
            why = getattr(e, "strerror", None) or e
            raise SinkError(
                f"cannot serve metrics at {host}:{port}: {why}", remedy="Choose another port or host."
            ) from e
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_port}/metrics"

    def close(self) -> None:
        """Stop. Calling it again does nothing."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._gpus.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

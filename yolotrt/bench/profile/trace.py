"""A profile as a trace for Perfetto (ui.perfetto.dev) and chrome://tracing: JSON of the trace event format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from yolotrt import files
from yolotrt.bench.profile.report import Profile

_PROCESS, _WHOLE, _LAYERS = 1, 0, 1


def write_trace(found: Profile, path: Path) -> None:
    """Write one inference as a trace, whole or not at all. Raises SinkError."""
    files.write_text(path, json.dumps(trace(found)) + "\n")


def trace(found: Profile) -> dict[str, Any]:
    """The trace: times in microseconds. Layers lie end to end where the runtime tells no starting times."""
    clocked = all(layer.start_ms is not None for layer in found.layers)
    events: list[dict[str, Any]] = [
        _named("process_name", str(found.info)),
        _named("thread_name", "inference", thread=_WHOLE),
        _named("thread_name", "layers", thread=_LAYERS),
    ]
    position = 0.0
    for layer in found.layers:
        start = layer.start_ms if clocked and layer.start_ms is not None else position
        position = start + layer.shown_ms
        arguments = {"nodes": list(layer.nodes), "kernel": layer.detail, "ms": layer.ms, "share": layer.share}
        events.append(
            _event(layer.name, " + ".join(layer.operators) or layer.kind, start, layer.shown_ms, _LAYERS, arguments)
        )
    end = max((e["ts"] + e["dur"] for e in events if e["ph"] == "X"), default=0.0) / 1e3
    events.append(_event(str(found.model), "inference", 0.0, end, _WHOLE, {"ms": found.whole_ms}))
    return {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {
            "starts": "as measured" if clocked else "end to end: the runtime tells durations only",
            "batch": found.batch,
            "back-end": str(found.info),
        },
    }


def _event(
    name: str, category: str, start_ms: float, ms: float, thread: int, arguments: dict[str, Any]
) -> dict[str, Any]:
    return {
        "name": name,
        "cat": category,
        "ph": "X",
        "ts": 1e3 * start_ms,
        "dur": 1e3 * ms,
        "pid": _PROCESS,
        "tid": thread,
        "args": arguments,
    }


def _named(what: str, name: str, *, thread: int = _WHOLE) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": _PROCESS, "tid": thread, "args": {"name": name}}

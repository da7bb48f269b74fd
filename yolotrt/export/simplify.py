"""Folding constants and removing dead nodes with onnxsim."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from yolotrt.errors import ExportError, MissingExtraError

if TYPE_CHECKING:
    import onnx


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """A simplified copy of `model`, with the same inputs, outputs and metadata.

    Raises:
        ExportError: onnxsim failed, or changed the model's interface.
        MissingExtraError: it is not installed.
    """
    try:
        import onnxsim
    except ImportError as e:
        raise MissingExtraError("onnxsim", "export", needed_for="Simplifying the ONNX graph") from e
    try:
        with _quiet_stderr():
            simpler: onnx.ModelProto = onnxsim.simplify(model)[0]
    except (RuntimeError, ValueError, IndexError) as e:
        raise ExportError(f"onnxsim could not simplify the graph ({str(e).strip().splitlines()[0][:200]})") from e
    if [v.name for v in (*simpler.graph.input, *simpler.graph.output)] != [
        v.name for v in (*model.graph.input, *model.graph.output)
    ]:
        raise ExportError("onnxsim changed the model's inputs or outputs")
    del simpler.metadata_props[:]
    simpler.metadata_props.extend(model.metadata_props)
    return simpler


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Swallow what native code writes to standard error: onnxsim lists there each node that it cannot fold."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)

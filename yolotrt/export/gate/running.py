"""A graph that is still in memory, run as users will run it: through `Detector`, on this machine's CPU."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from yolotrt.detector import Detector
from yolotrt.model_spec import ModelSpec, Precision
from yolotrt.model_spec_infer import METADATA_KEY
from yolotrt.options import DetectOptions

if TYPE_CHECKING:
    import onnx


@contextlib.contextmanager
def running(
    model: onnx.ModelProto, spec: ModelSpec, options: DetectOptions, *, precision: Precision
) -> Iterator[Detector]:
    """A detector of a graph, for the length of the block.

    On the CPU also where there is a GPU: every precision can be computed there, and scores of all versions come from
    the same arithmetic.

    Args:
        model: with or without metadata.
        spec: what the graph is.
        options: what the detector decodes with.
        precision: of the graph.
    """
    with tempfile.TemporaryDirectory(prefix="yolotrt-") as folder:
        path = Path(folder) / "model.onnx"
        write_model(path, model, spec, precision)
        with Detector(path, device="cpu", options=options) as detector:
            yield detector


def write_model(path: Path, model: onnx.ModelProto, spec: ModelSpec, precision: Precision) -> ModelSpec:
    """Write a graph as a file that describes itself; returns the description."""
    import onnx

    described = dataclasses.replace(spec, precision=precision)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    onnx.helper.set_model_props(copy, {METADATA_KEY: json.dumps(described.to_dict())})
    path.write_bytes(copy.SerializeToString())
    return described

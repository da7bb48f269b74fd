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
    model: onnx.ModelProto, spec: ModelSpec, options: DetectOptions, *, precision: Precision | None = None
) -> Iterator[Detector]:
    """A detector of a graph, for the length of the block.

    On the CPU also where there is a GPU: every precision can be computed there, and scores of all versions come from
    the same arithmetic.

    Args:
        model: with or without metadata.
        spec: what the graph is.
        options: what the detector decodes with.
        precision: of the graph, if not that of `spec`.
    """
    import onnx

    with tempfile.TemporaryDirectory(prefix="yolotrt-") as folder:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        described = dataclasses.replace(spec, precision=precision or spec.precision)
        onnx.helper.set_model_props(copy, {METADATA_KEY: json.dumps(described.to_dict())})
        path = Path(folder) / "model.onnx"
        path.write_bytes(copy.SerializeToString())
        with Detector(path, device="cpu", options=options) as detector:
            yield detector

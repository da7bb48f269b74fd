"""The result of an inspection, as data. `view` shows it, `Inspection.to_dict` is what `--json` prints."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from yolotrt.manifest import FileRecord
from yolotrt.model_spec import ModelSpec, TensorSpec
from yolotrt.plain import plain

Kind = Literal["onnx", "plan", "plan with Ultralytics' header", "manifest", "bundle"]
Runs = Literal["yes", "no"]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer: an ONNX node or a layer of a plan.

    Attributes:
        name: as the file has it.
        kind: ONNX operator or TensorRT layer type.
        precision: of its arithmetic: `fp32`, `fp16`, `bf16`, `int8`, `fp8`, `int4`, or another data type's name.
        output: shape of its first output, for people; its name where the shape is unknown.
        parameters: numbers in its weights; None where unknown, 0 for a layer without weights.
        flops: floating point operations for one picture; None where unknown.
    """

    name: str
    kind: str
    precision: str
    output: str = ""
    parameters: int | None = None
    flops: int | None = None


@dataclass(frozen=True, kw_only=True)
class PrecisionShare:
    """How much of a model is in one precision. Shares are 0..1; None where they cannot be known.

    Attributes:
        precision: as of `Layer`.
        layers: that are in it.
        parameters: numbers in their weights.
        parameter_share: of all weights.
        flop_share: of all floating point operations.
        convolution_share: of the multiply-accumulates of all convolutions, the measure of a quantized model.
    """

    precision: str
    layers: int
    parameters: int | None = None
    parameter_share: float | None = None
    flop_share: float | None = None
    convolution_share: float | None = None


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """One file of the model."""

    role: Literal["onnx", "plan", "manifest"]
    path: Path
    bytes: int
    sha256: str
    changed: bool = False
    """Whether its content is no longer the one that the manifest names."""


@dataclass(frozen=True, kw_only=True)
class PlanFacts:
    """What is known of a TensorRT plan.

    Attributes:
        flavour: title of the family that reads it: `TensorRT-RTX`.
        version: of the library that wrote it; empty where neither the plan nor a manifest tells.
        compute_capabilities: GPUs it was built for; empty where it does not tell.
        options: the plan options it was built with, from the manifest.
    """

    flavour: str
    version: str
    compute_capabilities: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Runner:
    """Whether one back-end runs the model here.

    Attributes:
        backend: `tensorrt`, `openvino` or `onnxruntime`.
        runs: whether one inference was made here with it.
        detail: version, device and time of that inference, or why there was none.
        remedy: what helps, where something does.
    """

    backend: str
    runs: bool
    detail: str
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What a model file is.

    Attributes:
        asked: what the user named.
        kind: what that is.
        files: the model's files.
        spec: the model as yolotrt runs it; None where yolotrt cannot run it or the file alone does not tell.
        spec_problem: why `spec` is None.
        inputs, outputs: the tensors that the file declares.
        precision_source: where the precisions come from: `graph`, `engine inspector`, `manifest`; empty if unknown.
        precisions: the share of each, largest first.
        layers: each layer; empty where the file does not tell.
        metadata: what the file says of itself: ONNX `metadata_props` or Ultralytics' header.
        opset: of an ONNX file, by domain.
        plan: of a plan.
        source: the weights it was exported from.
        runners: each back-end.
    """

    asked: Path
    kind: Kind
    files: Sequence[FileFacts]
    spec: ModelSpec | None
    spec_problem: str = ""
    inputs: Sequence[TensorSpec] = ()
    outputs: Sequence[TensorSpec] = ()
    precision_source: str = ""
    precisions: Sequence[PrecisionShare] = ()
    layers: Sequence[Layer] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    opset: Mapping[str, int] = field(default_factory=dict)
    plan: PlanFacts | None = None
    source: FileRecord | None = None
    runners: Sequence[Runner] = ()

    def to_dict(self, *, layers: bool = False) -> dict[str, Any]:
        """JSON-ready form. `layers` adds the table of layers."""
        data = {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self) if layers or f.name != "layers"}
        data["spec"] = self.spec.to_dict() if self.spec is not None else None
        return data

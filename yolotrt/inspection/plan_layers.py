"""The layers of a TensorRT plan, as its own engine inspector tells them. Needs the GPU that the plan is for."""

from __future__ import annotations

import json
import re
from typing import Any

from yolotrt.backends.tensorrt_engine import choose_flavour, load_engine
from yolotrt.backends.tensorrt_log import capture
from yolotrt.cuda.device import Device
from yolotrt.errors import YolotrtError
from yolotrt.inspection.report import Layer
from yolotrt.plan_file import PlanFile

# TensorRT names a tensor's type within its memory format: "Half", "FP16 NC/8HW8", "Row major linear FP32".
_TYPES = (
    ("fp8", re.compile(r"\b(fp8|float8|e4m3)", re.IGNORECASE)),
    ("int8", re.compile(r"\bint8", re.IGNORECASE)),
    ("bf16", re.compile(r"\b(bf16|bfloat16)", re.IGNORECASE)),
    ("fp16", re.compile(r"\b(fp16|half|float16)", re.IGNORECASE)),
    ("fp32", re.compile(r"\b(fp32|float)", re.IGNORECASE)),
)


def plan_layers(plan: PlanFile) -> list[Layer]:
    """The layers of a plan; empty where nothing here loads it: why not, the table of back-ends says."""
    try:
        flavour, device = choose_flavour(plan), Device.open()
        if not flavour.can.can_build:
            return []  # the lean and the dispatch runtime have no inspector
        with device.active(), capture(flavour) as (logger, messages):
            # The runtime must outlive its engine.
            _runtime, engine = load_engine(plan, flavour, device, logger, messages)
            inspector = engine.create_engine_inspector()
            text = inspector.get_engine_information(flavour.module.LayerInformationFormat.JSON)
            del inspector, engine
    except YolotrtError:
        return []
    return parse_layers(text)


def parse_layers(text: str) -> list[Layer]:
    """The layers in the inspector's JSON text: objects, or only names where a plan was built without details."""
    try:
        found = json.loads(text)
    except ValueError:
        return []
    entries = found.get("Layers", []) if isinstance(found, dict) else []
    return [_layer(entry) for entry in entries if isinstance(entry, dict | str)]


def _layer(entry: dict[str, Any] | str) -> Layer:
    if isinstance(entry, str):
        return Layer(name=entry, kind="", precision="unknown")
    inputs, outputs = entry.get("Inputs") or [], entry.get("Outputs") or []
    first = outputs[0] if outputs else {}
    weights = entry.get("Weights")
    return Layer(
        name=str(entry.get("Name", "")),
        kind=str(entry.get("ParameterType") or entry.get("LayerType") or ""),
        # A layer computes in the type that it reads; a cast or reformat is what it writes.
        precision=_precision(inputs or outputs),
        output=" x ".join(map(str, first.get("Dimensions") or ())) or str(first.get("Name", "")),
        parameters=int(weights["Count"]) if isinstance(weights, dict) and "Count" in weights else None,
    )


def _precision(tensors: list[dict[str, Any]]) -> str:
    text = " ".join(str(t.get("Datatype") or t.get("Format/Datatype") or t.get("Format") or "") for t in tensors[:1])
    return next((name for name, pattern in _TYPES if pattern.search(text)), "unknown")

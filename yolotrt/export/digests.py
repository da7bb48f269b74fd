"""Hashes over everything that an export's files depend on, so that what is unchanged need not be made again."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from yolotrt import files
from yolotrt._version import __version__
from yolotrt.backends.flavours import Flavour
from yolotrt.errors import CudaError, MissingExtraError, SourceError
from yolotrt.export.source import Source
from yolotrt.options import ExportOptions, PrecisionChoice

_PACKAGE = Path(__file__).parents[1]
_TOOLS = {
    "pt": ("ultralytics", "torch", "onnx", "onnxsim", "onnxruntime"),
    "onnx": ("onnx", "onnxsim", "onnxruntime"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Digests:
    """What the ONNX file and the plan depend on. Both together are the manifest's `inputs_digest`.

    Attributes:
        onnx: hash of the source, the options of the graph, the pictures and the versions of the tools; for `auto`
            also of all that a latency depends on.
        plan: hash of the options, the builder and, where the plan fits no other, the GPU of the plan, or of the other
            back-end that was checked.
    """

    onnx: str
    plan: str

    def __str__(self) -> str:
        return f"{self.onnx}-{self.plan}"


def compute_digests(
    source: Source,
    options: ExportOptions,
    *,
    precision: PrecisionChoice,
    pictures: Sequence[Path],
    flavour: Flavour | None,
    evidence: Mapping[str, Any] | None = None,
) -> Digests:
    """Hash what `export_model` would use, with what its precision is proven by in `evidence`.

    Raises SourceError where a picture cannot be read.
    """
    # A timing cache makes a build faster, not another plan.
    plan = dataclasses.asdict(dataclasses.replace(options.plan, timing_cache=None)) if flavour else None
    built: dict[str, Any] = {
        "builder": [flavour.key, flavour.version] if flavour else None,
        "gpu": _gpu() if flavour and not flavour.can.builds_without_gpu else None,
        "options": plan,
        "openvino": _version("openvino") if options.target == "openvino" else None,
    }
    graph: dict[str, Any] = {
        "source": source.sha256,
        "imgsz": options.imgsz,
        "batch": dataclasses.astuple(options.batch),
        "names": options.names,
        "opset": options.opset,
        "precision": precision,
        "edges": [options.head, options.fp16_input],
        "evidence": evidence,
        "pictures": [_content(p) for p in pictures],
        "tools": {
            "yolotrt": __version__,
            "code": code_digest(_PACKAGE),
            **{name: _version(name) for name in _TOOLS[source.kind]},
        },
    }
    if precision == "auto":  # chosen by latencies, also where the plan itself would fit any GPU
        graph["timed"] = {"target": options.target, **built, "gpu": _gpu() if flavour else None}
    return Digests(onnx=_hash(graph), plan=_hash(built))


def _content(picture: Path) -> str:
    try:
        return files.sha256_of(picture)
    except OSError as e:
        raise SourceError(f"{picture}: cannot read the picture: {e.strerror or e}") from e


def _hash(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]


@functools.cache
def code_digest(package: Path) -> str:
    """Hash of a package's modules: a checkout changes without a new version number.

    Of all of them, since an export also rests on how pictures are read and boxes decoded.
    """
    modules = sorted(package.rglob("*.py"))
    return hashlib.sha256(b"".join(m.read_bytes() for m in modules)).hexdigest()[:32]


def _gpu() -> list[str] | None:
    """The GPU here; None where there is none."""
    from yolotrt.cuda.device import Device

    try:
        gpu = Device.open()
    except (CudaError, MissingExtraError):
        return None  # the build or the timing says so
    return [gpu.name, gpu.compute_capability]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None

"""Read a plan file (`.engine`): the plan itself, what its first bytes tell, and what lies around it.

yolotrt writes plain plans with a manifest beside them. Ultralytics puts a header in front: the length of a JSON text
(4 bytes, little-endian), the text, then the plan. Both load.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from yolotrt.backends.flavours import RTX_MAGICS, TENSORRT_MAGICS
from yolotrt.errors import ModelError
from yolotrt.manifest import Manifest
from yolotrt.model_spec import BatchRange, ModelSpec, TensorSpec
from yolotrt.model_spec_infer import infer_spec

# Ultralytics' header is a few kilobytes of JSON: a longer one is not a header.
_MAX_METADATA_BYTES = 16 * 2**20
_MAGIC_BYTES = 4
# The header that TensorRT (from 8.6 on) and TensorRT-RTX share: magic, the plan's size in bytes at 16, the version of
# the library at 24 (one byte a part). TensorRT-RTX adds a bit mask of the GPUs it was built for at 32.
_HEADER = struct.Struct("<4s12xQ4B4x")
_RTX_HEADER = struct.Struct("<4s12xQ4B4xQ")
_RTX_GPU_BITS = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")


@dataclass(frozen=True, kw_only=True)
class PlanHeader:
    """What the first bytes of a plan tell.

    Attributes:
        magic: the first four bytes; `yolotrt.backends.flavours.readers` says who reads such plans.
        family: `tensorrt_rtx`, or `tensorrt` for the plans that the lean and the dispatch runtime read too.
        version: of the library that wrote it, empty where the header does not tell (TensorRT before 8.6).
        compute_capabilities: GPUs it was built for, empty where the header does not tell.
    """

    magic: bytes
    family: Literal["tensorrt", "tensorrt_rtx"]
    version: str = ""
    compute_capabilities: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PlanFile:
    """A plan file, read.

    Attributes:
        path: the file.
        plan: the serialized plan, without a header in front of it.
        offset: where it begins in the file, in bytes: 0 for a plain plan.
        header: what its first bytes tell.
        manifest: the manifest beside it (`NAME.json`) where that describes this plan, else None.
        ultralytics_metadata: the JSON that Ultralytics put in front, else None.
    """

    path: Path
    plan: memoryview = field(repr=False)
    offset: int
    header: PlanHeader
    manifest: Manifest | None
    ultralytics_metadata: dict[str, Any] | None

    @property
    def version(self) -> str:
        """Version of the library that wrote it; empty where neither the plan nor a manifest tells."""
        plan = self.manifest.plan if self.manifest is not None else None
        return self.header.version or (plan.version if plan is not None else "")

    @property
    def compute_capabilities(self) -> tuple[str, ...]:
        """GPUs it was built for ("8.9"); empty where neither the plan nor a manifest tells."""
        plan = self.manifest.plan if self.manifest is not None else None
        return self.header.compute_capabilities or (plan.compute_capabilities if plan is not None else ())

    @property
    def is_version_compatible(self) -> bool:
        """Whether the manifest says that it was built with `version_compatible`."""
        plan = self.manifest.plan if self.manifest is not None else None
        return plan is not None and bool(plan.options.get("version_compatible"))

    @property
    def precision(self) -> str:
        """The precision it was built for, as the manifest or Ultralytics' metadata says it; `unknown` where neither
        does."""
        if self.manifest is not None:
            return self.manifest.spec.precision
        arguments = (self.ultralytics_metadata or {}).get("args")
        if not isinstance(arguments, dict):
            return "unknown"
        if "quantize" in arguments:
            asked = str(arguments["quantize"])
            return {"8": "int8", "16": "fp16", "32": "fp32", "None": "fp32"}.get(asked, asked)
        # Before Ultralytics 8.4 it was two flags.
        return "int8" if arguments.get("int8") else "fp16" if arguments.get("half") else "fp32"

    def spec(
        self,
        *,
        inputs: Sequence[TensorSpec] = (),
        outputs: Sequence[TensorSpec] = (),
        batch: BatchRange | None = None,
        imgsz: tuple[int, int] | None = None,
    ) -> ModelSpec:
        """What the model is: from the manifest, else from Ultralytics' metadata and the loaded engine's tensors.

        Args:
            inputs, outputs: the loaded engine's tensors. Only a plan with a manifest can do without them.
            batch: the batch sizes the loaded engine takes.
            imgsz: the input size in pixels that it was tuned for, where its height and width may vary.

        Raises:
            ModelError: not a YOLO that yolotrt can run, or a manifest that describes another plan.
        """
        if self.manifest is not None:
            _check_tensors(self.path, self.manifest.spec, inputs, outputs)
            return self.manifest.spec
        if not inputs or not outputs:
            raise ModelError(
                f"{self.path}: a plan without a manifest tells what it is only once it is loaded on a GPU",
                remedy="Keep the .json file of `yolotrt export` beside it.",
            )
        metadata = {key: str(value) for key, value in (self.ultralytics_metadata or {}).items()}
        if imgsz is not None and None in inputs[0].shape[2:]:
            metadata["imgsz"] = str(list(imgsz))
        spec = infer_spec(
            inputs=inputs,
            outputs=outputs,
            metadata=metadata,
            where=str(self.path),
            precision="fp16" if self.precision == "fp16" else "fp32",
        )
        return spec if batch is None else dataclasses.replace(spec, batch=batch)


def read_plan_file(path: Path) -> PlanFile:
    """Read a plan file.

    Raises:
        ModelError: missing, empty, cut short, or not a TensorRT plan.
    """
    data = _read(path)
    metadata, offset = _split_metadata(path, data)
    plan = data[offset:]
    return PlanFile(
        path=path,
        plan=plan,
        offset=offset,
        header=read_plan_header(plan, where=str(path)),
        manifest=_manifest_beside(path),
        ultralytics_metadata=metadata,
    )


def read_plan_header(plan: bytes | memoryview, *, where: str = "the plan") -> PlanHeader:
    """Tell what a serialized plan is by its first bytes. Raises ModelError for anything that is none."""
    magic = bytes(plan[:_MAGIC_BYTES])
    if magic in TENSORRT_MAGICS:
        return PlanHeader(magic=magic, family="tensorrt", version=_tensorrt_version(plan, where))
    if magic not in RTX_MAGICS:
        raise ModelError(
            f"{where}: not a TensorRT plan",
            got=f"a file that begins with {magic!r}",
            expected=" or ".join(repr(known) for known in (*TENSORRT_MAGICS, *RTX_MAGICS)),
            remedy="Make a plan with: yolotrt export MODEL",
        )
    if len(plan) < _RTX_HEADER.size:
        raise _cut_short(where, len(plan), f"more than {_RTX_HEADER.size}")
    _, size, *version, gpus = _RTX_HEADER.unpack_from(plan)
    if len(plan) != size:
        raise _cut_short(where, len(plan), size)
    return PlanHeader(
        magic=magic,
        family="tensorrt_rtx",
        version=".".join(str(part) for part in version),
        compute_capabilities=tuple(name for bit, name in enumerate(_RTX_GPU_BITS) if gpus >> bit & 1),
    )


def _tensorrt_version(plan: bytes | memoryview, where: str) -> str:
    if bytes(plan[:_MAGIC_BYTES]) != TENSORRT_MAGICS[0] or len(plan) < _HEADER.size:
        return ""
    _, size, *version = _HEADER.unpack_from(plan)
    # A size that not even holds the header is not a size: then the rest is not what it seems to be either.
    if size < _HEADER.size:
        return ""
    if len(plan) < size:
        raise _cut_short(where, len(plan), size)
    return ".".join(str(part) for part in version)


def _read(path: Path) -> memoryview:
    if path.is_dir():
        raise ModelError(f"{path}: a folder, not a plan file")
    try:
        data = path.read_bytes()
    except FileNotFoundError as e:
        raise ModelError(f"{path}: no such file", remedy="Make a plan with: yolotrt export MODEL") from e
    except OSError as e:
        raise ModelError(f"{path}: cannot be read ({e.strerror or e})") from e
    if not data:
        raise ModelError(f"{path}: an empty file", remedy="Export the model again.")
    return memoryview(data)


def _split_metadata(path: Path, data: memoryview) -> tuple[dict[str, Any] | None, int]:
    """Ultralytics' metadata and where the plan begins; (None, 0) for a plain plan."""
    if bytes(data[:_MAGIC_BYTES]) in (*TENSORRT_MAGICS, *RTX_MAGICS) or len(data) < _MAGIC_BYTES + 1:
        return None, 0
    length = int.from_bytes(data[:4], "little")
    if bytes(data[4:5]) != b"{" or length > _MAX_METADATA_BYTES:
        return None, 0
    if 4 + length >= len(data):
        raise _cut_short(str(path), len(data), f"more than {4 + length}")
    try:
        metadata = json.loads(bytes(data[4 : 4 + length]).decode("utf-8"))
    except ValueError as e:
        raise ModelError(
            f"{path}: damaged metadata in front of the plan ({e})", remedy="Export the model again."
        ) from e
    return metadata, 4 + length


def _manifest_beside(path: Path) -> Manifest | None:
    beside = path.with_suffix(".json")
    if not beside.is_file():
        return None
    try:
        manifest = Manifest.read(beside)
    except ModelError:
        # Only a JSON file of ours counts: another tool's file of that name is not our business, our damaged one is.
        if _is_ours(beside):
            raise
        return None
    return manifest if manifest.plan is not None and manifest.plan.file == path.name else None


def _is_ours(beside: Path) -> bool:
    return b"yolotrt-manifest" in beside.read_bytes()


def _check_tensors(path: Path, spec: ModelSpec, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """Refuse a manifest that belongs to another plan, before a decoder reads the wrong numbers."""
    for kind, declared, actual in (("inputs", (spec.input,), inputs), ("outputs", spec.outputs, outputs)):
        wanted, got = ({(t.name, t.dtype, len(t.shape)) for t in tensors} for tensors in (declared, actual))
        if actual and wanted != got:
            raise ModelError(
                f"{path}: the manifest beside it describes another plan",
                got=f"{kind} {_tensors(actual)}",
                expected=_tensors(declared),
                remedy="Export the model again.",
            )


def _tensors(tensors: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{t.name} {t.dtype} {list(t.shape)}" for t in tensors)


def _cut_short(where: str, got: int, expected: object) -> ModelError:
    return ModelError(
        f"{where}: the plan is cut short or damaged",
        got=f"{got} bytes",
        expected=expected,
        remedy="Copy it again or export the model again.",
    )

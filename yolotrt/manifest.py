"""The JSON manifest beside an exported model: what was asked, what was made, from what, and with which tools.

A bundle is the folder `yolotrt export` writes: `NAME.onnx`, maybe `NAME.engine`, and this manifest as `NAME.json`.
The plan itself stays a plain TensorRT plan, so everything a runtime must know stands here and in the ONNX metadata.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yolotrt import files
from yolotrt.errors import ModelError
from yolotrt.model_spec import ModelSpec

FORMAT = "yolotrt-manifest"
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """A file of the bundle: its name beside the manifest and the SHA-256 of its content."""

    file: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class PlanRecord(FileRecord):
    """The plan and what it was built with.

    Attributes:
        flavour: import family that reads it: `tensorrt`, `tensorrt_rtx`.
        version: TensorRT's version string.
        compute_capabilities: GPUs it was built for ("8.9"); empty where the flavour decides when it loads.
        options: the plan options that were set.
    """

    flavour: str
    version: str
    compute_capabilities: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What an export made.

    Attributes:
        name: of the bundle.
        created: UTC time, ISO 8601.
        yolotrt: version that wrote it.
        spec: the model as it runs.
        source: the weights it came from.
        precision_asked: what the user asked for; `spec.precision` is what was achieved.
        inputs_digest: hash over everything the export depends on; the same digest means nothing to do.
        onnx: the ONNX file.
        plan: the plan, where one was built.
        checks: results of the export's own checks, by stage.
        report: the page on the accuracy, where it was measured.
        accepted: it keeps the accuracy that was asked for, or none was.
    """

    name: str
    created: str
    yolotrt: str
    spec: ModelSpec
    source: FileRecord
    precision_asked: str
    inputs_digest: str
    onnx: FileRecord
    plan: PlanRecord | None = None
    checks: Mapping[str, Any] = field(default_factory=dict)
    report: FileRecord | None = None
    accepted: bool = True

    def write(self, path: Path) -> None:
        """Write the manifest, whole or not at all."""
        data = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self), "spec": self.spec.to_dict()}
        files.write_text(path, json.dumps(data, indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a manifest. Raises ModelError where the file is not one."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as e:
            raise ModelError(f"{path}: not a readable manifest ({e})") from e
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ModelError(f"{path}: not a yolotrt manifest", expected=f'a JSON object with "format": "{FORMAT}"')
        if data.get("version") != VERSION:
            raise ModelError(
                f"{path}: written by another version of yolotrt",
                got=f"manifest version {data.get('version')}",
                expected=VERSION,
                remedy="Export the model again with this version.",
            )
        return cls._from_dict(data, path)

    @classmethod
    def _from_dict(cls, data: dict[str, Any], path: Path) -> Manifest:
        try:
            plan = data["plan"]
            return cls(
                name=data["name"],
                created=data["created"],
                yolotrt=data["yolotrt"],
                spec=ModelSpec.from_dict(data["spec"], where=str(path)),
                source=FileRecord(**data["source"]),
                precision_asked=data["precision_asked"],
                inputs_digest=data["inputs_digest"],
                onnx=FileRecord(**data["onnx"]),
                plan=PlanRecord(**{**plan, "compute_capabilities": tuple(plan["compute_capabilities"])})
                if plan
                else None,
                checks=data["checks"],
                # Manifests of earlier versions have neither of these.
                report=FileRecord(**data["report"]) if data.get("report") else None,
                accepted=bool(data.get("accepted", True)),
            )
        except (KeyError, TypeError) as e:
            raise ModelError(f"{path}: damaged manifest ({e!r})", remedy="Export the model again.") from e

"""Kernels that TensorRT-RTX compiled when it loaded a plan, kept on disk for the next load."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import Path

from yolotrt import files
from yolotrt.backends.flavours import Flavour
from yolotrt.cache import cache_folder, keep_newest
from yolotrt.cuda.device import Device
from yolotrt.errors import SinkError

_KEPT = 32  # files: some megabytes each
_DIGEST = 32  # bytes of SHA-256 before the content


@dataclass(frozen=True)
class RuntimeCacheFile:
    """The file of one plan, library version and GPU.

    Several processes may read and write it at the same time. A damaged file counts as none, and a folder that cannot be
    written costs time at each load and nothing else.
    """

    path: Path

    @classmethod
    def of(cls, plan: memoryview, flavour: Flavour, device: Device) -> RuntimeCacheFile:
        """Where the kernels of this plan are kept."""
        key = hashlib.sha256(plan)
        for part in (flavour.key, flavour.version, device.name, device.compute_capability):
            key.update(b"\0" + part.encode())
        return cls(cache_folder() / "runtime" / key.hexdigest()[:32])

    def read(self) -> bytes | None:
        """What was kept; None where there is nothing whole."""
        try:
            held = self.path.read_bytes()
        except OSError:
            return None
        content = held[_DIGEST:]
        if hashlib.sha256(content).digest() != held[:_DIGEST]:
            return None
        keep_newest(self.path, _KEPT)
        return content

    def write(self, content: bytes) -> None:
        """Keep `content` in place of what is there."""
        with contextlib.suppress(SinkError):
            files.write_bytes(self.path, hashlib.sha256(content).digest() + content)
            keep_newest(self.path, _KEPT)

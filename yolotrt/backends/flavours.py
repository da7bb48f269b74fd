"""The TensorRT family as data: which flavours there are, which are installed, and what each can do.

`tensorrt` (10.x, 11.x), `tensorrt_rtx`, `tensorrt_lean` and `tensorrt_dispatch` share one Python API. What differs
between them stands in a `Flavour` record, so that the builder and the runtime ask for a capability, never for a name.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import cast

from yolotrt.backends.tensorrt_api import TensorRT
from yolotrt.errors import BackendError, MissingExtraError, UsageError


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What a member of the family can do.

    Attributes:
        key: its name in manifests: `tensorrt_rtx`.
        title: its name for people: `TensorRT-RTX`.
        modules: import names, in the order they are tried.
        distributions: packages whose version is the library's, in the order they are tried.
        extra: the extra of yolotrt that installs it; empty where none does.
        target: the `--target` that builds with it; empty where it cannot build.
        magics: the first four bytes of the plans it reads.
        version_compatible_only: it reads only plans built with `version_compatible`.
        builds_without_gpu: it compiles ahead of time on a machine without a GPU.
        plan_options: names of the `PlanOptions` it has.
        lacks: names of the `PlanOptions` it lacks, and why.
        gpu_options: names of the `PlanOptions` with which it needs a GPU even so.
        explains_invalid_plans: its runtime says why a plan does not fit (`Runtime.get_engine_validity`).
        refits_from_onnx: it can fill a stripped plan with the weights of an ONNX file.
        compiles_when_loaded: it compiles kernels for the GPU it finds when a plan is loaded, and can keep them.
        quantizes_since: the first version that builds convolutions of this precision, by its name; those that are not
            named, all do.
    """

    key: str
    title: str
    modules: tuple[str, ...]
    distributions: tuple[str, ...]
    magics: tuple[bytes, ...]
    extra: str = ""
    target: str = ""
    version_compatible_only: bool = False
    builds_without_gpu: bool = False
    plan_options: frozenset[str] = frozenset()
    lacks: Mapping[str, str] = field(default_factory=dict, hash=False)
    gpu_options: frozenset[str] = frozenset()
    explains_invalid_plans: bool = False
    refits_from_onnx: bool = False
    compiles_when_loaded: bool = False
    quantizes_since: Mapping[str, tuple[int, int]] = field(default_factory=dict, hash=False)

    @property
    def can_build(self) -> bool:
        return bool(self.target)

    @property
    def again(self) -> str:
        """The command that installs it again, by its own packages and not with yolotrt; empty for none."""
        bindings = self.distributions[0]
        libraries = bindings.replace("-bindings", "-libs")
        return f"pip install --force-reinstall {bindings} {libraries}" if self.extra else ""


TENSORRT_MAGICS = (b"ftrt", b"ptrt")
RTX_MAGICS = (b"vtrt",)

FAMILY: tuple[Capabilities, ...] = (
    Capabilities(
        key="tensorrt",
        title="TensorRT",
        modules=("tensorrt", "tensorrt_bindings"),
        distributions=("tensorrt-cu13-bindings", "tensorrt-cu12-bindings", "tensorrt"),
        magics=TENSORRT_MAGICS,
        extra="tensorrt",
        target="tensorrt",
        plan_options=frozenset(
            {
                "workspace_mib",
                "optimization_level",
                "timing_cache",
                "version_compatible",
                "hardware_compatible",
                "refittable",
                "strip",
            }
        ),
        lacks={"compute_capability": "it builds for the GPU it runs on"},
        refits_from_onnx=True,
    ),
    Capabilities(
        key="tensorrt_rtx",
        title="TensorRT-RTX",
        modules=("tensorrt_rtx", "tensorrt_rtx_bindings"),
        distributions=("tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu12-bindings", "tensorrt-rtx"),
        magics=RTX_MAGICS,
        extra="rtx",
        target="tensorrt-rtx",
        builds_without_gpu=True,
        plan_options=frozenset({"workspace_mib", "compute_capability", "refittable", "strip"}),
        lacks={
            # Plans built at levels 0, 1, 3 and 5 are the same, byte for byte (YOLOv8n, 1.6.1.120 and 1.7.1.116).
            "optimization_level": "it makes the same plan at every level",
            "timing_cache": "it times kernels when a plan is loaded, not when it is built",
            # It tries to load a lean runtime that no TensorRT-RTX package holds.
            "version_compatible": "it has no lean runtime",
            "hardware_compatible": "its plans fit every GPU they were built for: use compute_capability",
        },
        gpu_options=frozenset({"refittable", "strip"}),
        explains_invalid_plans=True,
        refits_from_onnx=True,
        compiles_when_loaded=True,
        quantizes_since={"fp8": (1, 5), "int8": (1, 7)},
    ),
    Capabilities(
        key="tensorrt_lean",
        title="the TensorRT lean runtime",
        modules=("tensorrt_lean", "tensorrt_lean_bindings"),
        distributions=("tensorrt-lean-cu13-bindings", "tensorrt-lean-cu12-bindings", "tensorrt-lean"),
        magics=TENSORRT_MAGICS,
        version_compatible_only=True,
    ),
    Capabilities(
        key="tensorrt_dispatch",
        title="the TensorRT dispatch runtime",
        modules=("tensorrt_dispatch", "tensorrt_dispatch_bindings"),
        distributions=("tensorrt-dispatch-cu13-bindings", "tensorrt-dispatch-cu12-bindings", "tensorrt-dispatch"),
        magics=TENSORRT_MAGICS,
        version_compatible_only=True,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Flavour:
    """One installed member of the family. It may still fail to import: see `problem`.

    Attributes:
        can: what it can do.
        module_name: the import name found.
        version: of the library, such as `1.7.1.116`; `unknown` where only a broken module could tell.
    """

    can: Capabilities
    module_name: str
    version: str

    @property
    def key(self) -> str:
        return self.can.key

    @property
    def title(self) -> str:
        """Name and version for people: `TensorRT-RTX 1.7.1.116`."""
        return f"{self.can.title} {self.version}"

    def lacks_precision(self, precision: str) -> str:
        """Why it builds no plan of this precision, in a few words; empty where it does."""
        since = self.can.quantizes_since.get(precision)
        own = re.match(r"(\d+)\.(\d+)", self.version)
        if since is None or own is None or (int(own[1]), int(own[2])) >= since:
            return ""
        return f"{self.title} builds no {precision.upper()} convolutions, {since[0]}.{since[1]} and later do"

    @property
    def problem(self) -> str | None:
        """Why it cannot be imported, in one line, or None. Imports it."""
        found = _import(self.module_name)
        return found if isinstance(found, str) else None

    @property
    def module(self) -> TensorRT:
        """The imported module. Raises BackendError where the installation is broken."""
        found = _import(self.module_name)
        if isinstance(found, str):
            raise BackendError(
                f"{self.title} is installed but cannot be imported: {found}",
                remedy=f"Install it again: {self.can.again}"
                if self.can.again
                else "Install it again, bindings and libraries of the same version.",
            )
        return found


def installed() -> list[Flavour]:
    """The flavours found here, in the order of `FAMILY`. Imports none of them unless only that tells its version."""
    return [flavour for can in FAMILY if (flavour := _find(can)) is not None]


def capabilities(key: str) -> Capabilities:
    """The record of the flavour `key`. Raises KeyError for a name that is none."""
    return {can.key: can for can in FAMILY}[key]


def for_target(target: str) -> Flavour:
    """The flavour that builds plans for a `--target`: `tensorrt`, `tensorrt-rtx`, or `auto` for whichever is there.

    With `auto` and several of them, one that can build here is taken: without a GPU only those that need none.

    Raises:
        MissingExtraError: it is not installed (for `auto`: none is).
        BackendError: it is installed but cannot be imported.
    """
    builders = [can for can in FAMILY if can.can_build]
    wanted = [can for can in builders if target in ("auto", can.target)]
    if not wanted:
        raise UsageError(
            "this target is not built with TensorRT",
            got=target,
            expected=" | ".join(["auto", *(can.target for can in builders)]),
        )
    found = [flavour for can in wanted if (flavour := _find(can)) is not None]
    if not found:
        # Of several, the one that builds on any machine is the one to recommend.
        best = max(wanted, key=lambda can: can.builds_without_gpu)
        raise MissingExtraError(best.distributions[0], best.extra, needed_for=f"building a plan ({best.title})")
    usable = [flavour for flavour in found if flavour.problem is None]
    if len(usable) > 1 and not _has_gpu():
        usable.sort(key=lambda flavour: not flavour.can.builds_without_gpu)
    chosen = (usable or found)[0]
    _ = chosen.module  # raises for a broken one
    return chosen


def readers(magic: bytes) -> list[Capabilities]:
    """The flavours that read plans which start with `magic`; empty for anything that is no plan."""
    return [can for can in FAMILY if magic in can.magics]


def _find(can: Capabilities) -> Flavour | None:
    for name in can.modules:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            continue
        # A folder of that name without code (a namespace package) is no installation.
        if spec is not None and spec.origin is not None:
            return Flavour(can=can, module_name=name, version=_version(can, name))
    return None


def _version(can: Capabilities, module_name: str) -> str:
    for distribution in can.distributions:
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(distribution)
    found = _import(module_name)
    return "unknown" if isinstance(found, str) else found.__version__


@functools.cache
def _import(name: str) -> TensorRT | str:
    """The module, or the reason why it cannot be imported. Both stay: a native library is not loaded twice."""
    try:
        return cast("TensorRT", importlib.import_module(name))
    except Exception as e:  # noqa: BLE001 - a broken native package raises anything
        return " ".join(f"{type(e).__name__}: {e}".split())


def _has_gpu() -> bool:
    from yolotrt.cuda.device import device_count

    return device_count() > 0

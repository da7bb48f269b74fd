"""ONNX in, TensorRT plan out: the one builder of the whole TensorRT family.

Every build is strongly typed: the precision is what the graph says. What an option means to a flavour, or that it has
none of it, stands in `yolotrt.backends.flavours`.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yolotrt import files
from yolotrt.backends.flavours import FAMILY, Flavour
from yolotrt.backends.tensorrt_api import Builder, IBuilderConfig, ILogger, INetworkDefinition, ParserError, TensorRT
from yolotrt.backends.tensorrt_log import Messages, capture
from yolotrt.cuda.device import Device
from yolotrt.errors import (
    BackendError,
    CudaError,
    ExportError,
    ModelError,
    UnsupportedOptionError,
    UsageError,
    YolotrtError,
)
from yolotrt.model_spec import ModelSpec
from yolotrt.options import PlanOptions

log = logging.getLogger(__name__)

Progress = Callable[[str], None]
Shape = tuple[int, ...]
MAX_OPTIMIZATION_LEVEL = 5
MAX_WORKSPACE_MIB = 1 << 30  # a pebibyte; TensorRT counts bytes in 64 bits
_SHOWN_ERRORS = 5


@dataclass(frozen=True, kw_only=True)
class BuiltPlan:
    """A plan, and what a `PlanRecord` says of it.

    Attributes:
        data: the serialized plan, ready to be written as it is.
        flavour: who reads it: `tensorrt`, `tensorrt_rtx`.
        version: of the library that built it.
        compute_capabilities: GPUs it was built for ("8.9"); empty where the flavour decides when it loads.
        options: the plan options that were set, JSON-ready.
        warnings: what TensorRT warned of.
    """

    data: bytes = field(repr=False)
    flavour: str
    version: str
    compute_capabilities: tuple[str, ...]
    options: dict[str, Any]
    warnings: tuple[str, ...] = ()


def build_plan(
    onnx_path: Path,
    *,
    flavour: Flavour,
    spec: ModelSpec,
    options: PlanOptions,
    on_progress: Progress | None = None,
) -> BuiltPlan:
    """Compile an ONNX file.

    Args:
        onnx_path: the model, with its precision in the graph.
        flavour: which TensorRT builds it.
        spec: its batch sizes and input size tune the plan: where the graph leaves the batch open, it takes
            `spec.batch`; where it leaves height and width open, they go from the stride to `spec.imgsz`.
        options: how it is built.
        on_progress: told in a few words what is being done.

    Raises:
        UnsupportedOptionError: an option that this flavour lacks.
        CudaError: this build needs a GPU and there is none.
        ExportError: TensorRT cannot parse or build the graph.
    """
    check_options(options, flavour)
    say = on_progress or (lambda _: None)
    gpu = _gpu_for(flavour, options)
    with gpu.active() if gpu else contextlib.nullcontext(), capture(flavour) as (logger, messages):
        started = time.perf_counter()
        data = _Build(flavour, onnx_path, spec, options, logger, messages, say).run()
        say(f"{flavour.title}: {len(data) / 2**20:.1f} MiB in {time.perf_counter() - started:.1f} s")
    return BuiltPlan(
        data=data,
        flavour=flavour.key,
        version=flavour.version,
        compute_capabilities=options.compute_capability
        or ((gpu.compute_capability,) if gpu and not flavour.can.builds_without_gpu else ()),
        options=set_options(options),
        warnings=tuple(dict.fromkeys(messages.warnings)),
    )


def set_options(options: PlanOptions) -> dict[str, Any]:
    """The options that differ from their defaults, JSON-ready."""
    default = vars(PlanOptions())
    changed = {name: value for name, value in vars(options).items() if value != default[name]}
    return {
        name: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
        for name, value in changed.items()
    }


def check_options(options: PlanOptions, flavour: Flavour) -> None:
    """Refuse what `flavour` lacks, and values out of range.

    Raises:
        UnsupportedOptionError: an option that it lacks, named, with who has it.
        UsageError: a value out of range.
    """
    if not flavour.can.can_build:
        raise UnsupportedOptionError(
            f"{flavour.title} cannot build plans, only load them",
            remedy="Build with TensorRT or TensorRT-RTX.",
        )
    for name in set_options(options):
        if name not in flavour.can.plan_options:
            having = [can.title for can in FAMILY if name in can.plan_options]
            raise UnsupportedOptionError(
                f"{flavour.title} has no option {name} ({flavour.can.lacks.get(name, 'it is unknown to it')})",
                remedy=f"{' and '.join(having)} {'have' if len(having) > 1 else 'has'} it; else leave it out."
                if having
                else "Leave it out.",
            )
    level = options.optimization_level
    if level is not None and not 0 <= level <= MAX_OPTIMIZATION_LEVEL:
        raise UsageError(
            "option optimization_level is out of range", got=level, expected=f"0 to {MAX_OPTIMIZATION_LEVEL}"
        )
    if options.workspace_mib is not None and not 1 <= options.workspace_mib <= MAX_WORKSPACE_MIB:
        raise UsageError(
            "option workspace_mib is out of range", got=options.workspace_mib, expected=f"1 to {MAX_WORKSPACE_MIB}"
        )


def _gpu_for(flavour: Flavour, options: PlanOptions) -> Device | None:
    """The GPU to build on, where the build needs one."""
    needing = sorted(flavour.can.gpu_options & set_options(options).keys())
    if flavour.can.builds_without_gpu and not needing:
        return None
    try:
        return Device.open(0)
    except CudaError as e:
        option = f" with option {needing[0]}" if needing else ""
        free = next(can for can in FAMILY if can.builds_without_gpu)
        raise CudaError(
            f"{flavour.title} builds a plan{option} only on a machine with a GPU ({e.what})",
            remedy="Build on the machine that will run it, or leave the option out."
            if needing
            else f"Build on the machine that will run it, or with --target {free.target} "
            f'(pip install "yolotrt[{free.extra}]"), which needs no GPU.',
        ) from e


class _Build:
    """One build. Holds every TensorRT object until it is over, since they refer to each other."""

    def __init__(
        self,
        flavour: Flavour,
        onnx_path: Path,
        spec: ModelSpec,
        options: PlanOptions,
        logger: ILogger,
        messages: Messages,
        say: Progress,
    ) -> None:
        self.flavour, self.onnx_path, self.spec, self.options = flavour, onnx_path, spec, options
        self.logger, self.messages, self.say = logger, messages, say
        self.trt: TensorRT = flavour.module

    def run(self) -> bytes:
        trt = self.trt
        with self._failing("cannot start"):
            builder = trt.Builder(self.logger)
        # TensorRT 11 and TensorRT-RTX know nothing else and take the flag as it is; TensorRT 10 needs it.
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        self.say(f"{self.flavour.title}: parsing {self.onnx_path.name}")
        # The parser owns the weights that the network refers to: it lives until the plan is built.
        parser = trt.OnnxParser(network, self.logger)
        if not parser.parse_from_file(str(self.onnx_path)):
            raise self._parse_error([parser.get_error(i) for i in range(parser.num_errors)])
        if network.num_inputs != 1 or network.num_outputs < 1 or network.num_layers < 1:
            raise ModelError(
                f"{self.onnx_path}: not a YOLO that yolotrt can run",
                got=f"{network.num_inputs} inputs, {network.num_outputs} outputs, {network.num_layers} layers",
                expected="one picture input and at least one output",
            )
        config = builder.create_builder_config()
        self._add_profile(builder, network, config)
        self._apply(config)
        cache = self.options.timing_cache
        if cache is not None:
            attach_timing_cache(config, cache)
        self.say(f"{self.flavour.title}: building from {network.num_layers} layers")
        with self._failing("cannot build the plan"):
            plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise self._build_error()
        if cache is not None:
            save_timing_cache(config, cache)
        del parser
        return bytes(memoryview(plan))

    def _add_profile(self, builder: Builder, network: INetworkDefinition, config: IBuilderConfig) -> None:
        """Say which sizes the open dimensions take. A plan with none needs no profile."""
        tensor = network.get_input(0)
        shape = tuple(tensor.shape)
        if len(shape) != 4:
            raise ModelError(
                f"{self.onnx_path}: not a YOLO that yolotrt can run",
                got=f"input {tensor.name} of shape {shape}",
                expected="(N, 3, H, W)",
            )
        sizes = profile_shapes(shape, self.spec, where=str(self.onnx_path))
        if sizes is None:
            return
        profile = builder.create_optimization_profile()
        profile.set_shape(tensor.name, *sizes)
        if config.add_optimization_profile(profile) < 0:
            raise ExportError(
                f"{self.flavour.title} refuses the sizes {sizes}: {self.messages.summary()}",
                remedy="Use another --batch-range or --imgsz.",
            )

    def _apply(self, config: IBuilderConfig) -> None:
        trt, options = self.trt, self.options
        # What `yolotrt inspect` tells of the layers; it changes no kernel.
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        if options.workspace_mib is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
        if options.optimization_level is not None:
            config.builder_optimization_level = options.optimization_level
        if options.version_compatible:
            config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        if options.hardware_compatible:
            config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
        if options.refittable:
            config.set_flag(trt.BuilderFlag.REFIT)
        if options.strip:
            config.set_flag(trt.BuilderFlag.STRIP_PLAN)
        if options.compute_capability:
            self._set_compute_capabilities(config, options.compute_capability)

    def _set_compute_capabilities(self, config: IBuilderConfig, wanted: tuple[str, ...]) -> None:
        # Named SM75, SM86, SM120; NONE and CURRENT are no GPUs.
        known = {
            f"{name[2:-1]}.{name[-1]}": member
            for name, member in self.trt.ComputeCapability.__members__.items()
            if name.startswith("SM")
        }
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise UnsupportedOptionError(
                f"{self.flavour.title} cannot build for compute_capability {', '.join(unknown)}",
                expected=", ".join(known),
                remedy="Leave it out for a plan that fits most GPUs.",
            )
        unique = tuple(dict.fromkeys(wanted))
        config.num_compute_capabilities = len(unique)
        for i, name in enumerate(unique):
            if not config.set_compute_capability(known[name], i):
                raise ExportError(f"{self.flavour.title} refuses compute_capability {name}: {self.messages.summary()}")

    def _parse_error(self, errors: list[ParserError]) -> ExportError:
        told = [_describe(e.node(), e.node_name(), e.node_operator(), e.desc()) for e in errors[:_SHOWN_ERRORS]]
        if len(errors) > _SHOWN_ERRORS:
            told.append(f"and {len(errors) - _SHOWN_ERRORS} more")
        return ExportError(
            f"{self.flavour.title} cannot parse {self.onnx_path}: {'; '.join(told) or self.messages.summary()}",
            remedy="Export with --target onnx to run the model without TensorRT.",
        )

    def _build_error(self) -> YolotrtError:
        if self.messages.driver_too_old:
            return CudaError(
                f"{self.flavour.title} needs a newer NVIDIA driver for this build", remedy="Update the NVIDIA driver."
            )
        remedy = None
        short = self.messages.mention("OutOfMemory") or self.messages.mention("out of memory")
        if self.messages.mention("workspace") or (short and self.options.workspace_mib is not None):
            remedy = "Allow more with --workspace, or leave it out."
        elif short:
            remedy = "Use a smaller batch or input size."
        return ExportError(f"{self.flavour.title} cannot build the plan: {self.messages.summary()}", remedy=remedy)

    @contextlib.contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        """pybind11 raises TypeError for a class whose factory gives nothing, RuntimeError for a C++ exception."""
        try:
            yield
        except (TypeError, RuntimeError) as e:
            raise BackendError(f"{self.flavour.title} {what}: {self.messages.summary(otherwise=str(e))}") from e


def profile_shapes(shape: Shape, spec: ModelSpec, *, where: str) -> tuple[Shape, Shape, Shape] | None:
    """Smallest, usual and largest input shape where the graph leaves dimensions open (-1); None where it leaves none.

    Raises ExportError where `spec` asks for a size that the graph does not take.
    """
    batch, channels, height, width = shape
    sizes = spec.batch
    if batch != -1 and not sizes.min == batch == sizes.max:
        raise ExportError(
            f"{where}: the graph takes batches of {batch} only",
            got=f"batch {sizes.min},{sizes.opt},{sizes.max}",
            remedy="Export the ONNX again with this batch.",
        )
    for side, wanted in zip((height, width), spec.imgsz, strict=True):
        if side not in (-1, wanted):
            raise ExportError(f"{where}: the graph takes pictures of {height}x{width} only", got=f"imgsz {spec.imgsz}")
    if -1 not in shape:
        return None
    low, usual, high = (
        (n if batch == -1 else batch, channels, h if height == -1 else height, w if width == -1 else width)
        for n, (h, w) in (
            (sizes.min, (spec.stride, spec.stride)),
            (sizes.opt, spec.imgsz),
            (sizes.max, spec.imgsz),
        )
    )
    return low, usual, high


def attach_timing_cache(config: IBuilderConfig, path: Path) -> None:
    """Let the build read kernel timings from `path`. A missing, damaged or foreign cache is replaced by an empty one.

    With a warning where the file was there.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        data = b""
    except OSError as e:
        raise UsageError(f"option timing_cache: {path} cannot be read ({e.strerror or e})") from e
    cache = config.create_timing_cache(data)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        log.warning("%s: not a timing cache of this TensorRT and this GPU: a new one replaces it", path)
        empty = config.create_timing_cache(b"")
        if empty is None or not config.set_timing_cache(empty, ignore_mismatch=False):
            raise ExportError("TensorRT refuses an empty timing cache")


def save_timing_cache(config: IBuilderConfig, path: Path) -> None:
    """Write the timings back, whole or not at all. Raises SinkError where the file cannot be written."""
    cache = config.get_timing_cache()
    if cache is not None:
        files.write_bytes(path, memoryview(cache.serialize()))


def _describe(index: int, name: str, operator: str, text: str) -> str:
    text = text.rstrip(". ")
    if index < 0 and not name:
        return text
    return f"node {index} {name!r} ({operator or 'unknown operator'}): {text}"

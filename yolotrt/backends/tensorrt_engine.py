"""Load a plan: the flavour that reads it, the engine, its tensors, and why a plan does not load."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from yolotrt import files
from yolotrt.backends.flavours import Flavour, capabilities, installed, readers
from yolotrt.backends.tensorrt_api import ICudaEngine, ILogger, Runtime
from yolotrt.backends.tensorrt_log import Messages, capture
from yolotrt.cuda.device import Device
from yolotrt.errors import (
    BackendError,
    CudaError,
    MissingExtraError,
    ModelError,
    PlanMismatchError,
    YolotrtError,
)
from yolotrt.model_spec import BatchRange, TensorSpec
from yolotrt.plan_file import PlanFile, read_plan_file

DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "UINT8": "uint8",
}
# What TensorRT 10 and 11 say of a plan of another version, and of one for another GPU.
_OTHER_VERSION = re.compile(r"expecting library version ([\d.]+) got ([\d.]*\d)?")
_OTHER_GPU = re.compile(r"expecting compute ([\d.]+\d) got compute ([\d.]+\d)")


def find_plan(path: Path, *, device: int = 0, flavour: Flavour | None = None) -> tuple[PlanFile, Flavour, Device]:
    """A plan file, the TensorRT that reads it, and the GPU to load it on.

    Args:
        path: plain, or with Ultralytics' header.
        device: number of the GPU.
        flavour: which TensorRT loads it; None takes the installed one that reads it.

    Raises:
        ModelError: no such file, or no plan.
        PlanMismatchError: a plan of another TensorRT.
        MissingExtraError: no TensorRT, or no CUDA packages, are installed.
        CudaError: no driver, or no such GPU.
        BackendError: TensorRT cannot be imported.
    """
    plan_file = read_plan_file(path)
    if flavour is None:
        flavour = choose_flavour(plan_file)
    else:
        check_flavour(plan_file, flavour)
    return plan_file, flavour, Device.open(device)


def choose_flavour(plan_file: PlanFile) -> Flavour:
    """The installed flavour that reads this plan.

    Raises:
        MissingExtraError: no member of the TensorRT family is installed that an extra brings.
        PlanMismatchError: others are installed, but none that reads it.
        BackendError: the one that reads it is installed but cannot be imported.
    """
    reading = [
        can
        for can in readers(plan_file.header.magic)
        if plan_file.is_version_compatible or not can.version_compatible_only
    ]
    here = installed()
    found = [flavour for can in reading for flavour in here if flavour.can == can]
    if found:
        return next((flavour for flavour in found if flavour.problem is None), found[0])
    best = capabilities(plan_file.header.family)
    if not here:
        raise MissingExtraError(best.distributions[0], best.extra, needed_for=f"Running {plan_file.path.name}")
    raise _mismatch(
        plan_file,
        got=f"{best.title} {plan_file.version}".rstrip(),
        expected=" or ".join(flavour.title for flavour in here),
        target=next((flavour.can.target for flavour in here if flavour.can.can_build), best.target),
        other=f'install it: pip install "yolotrt[{best.extra}]"',
    )


def check_flavour(plan_file: PlanFile, flavour: Flavour) -> None:
    """Refuse a plan that `flavour` cannot read. Raises PlanMismatchError."""
    if plan_file.header.magic not in flavour.can.magics:
        raise _mismatch(
            plan_file,
            got=f"{capabilities(plan_file.header.family).title} {plan_file.version}".rstrip(),
            expected=flavour.title,
            target=flavour.can.target or flavour.key,
        )


def load_engine(
    plan_file: PlanFile, flavour: Flavour, device: Device, logger: ILogger, messages: Messages
) -> tuple[Runtime, ICudaEngine]:
    """Deserialize a plan on the current GPU, and fill it with weights where it was built without.

    Raises:
        PlanMismatchError: built by another TensorRT or for another GPU; both are named.
        ModelError: damaged, or stripped and the weights cannot be found.
        BackendError, CudaError: the runtime cannot start.
    """
    trt = flavour.module
    try:
        runtime = trt.Runtime(logger)
    except (TypeError, RuntimeError) as e:
        raise BackendError(f"{flavour.title} cannot start: {messages.summary(otherwise=str(e))}") from e
    if plan_file.is_version_compatible:
        # Such a plan carries the runtime of the version that built it, as host code. A plan is code either way: GPU
        # code that runs as it is.
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(plan_file.plan)
    if engine is None:
        raise explain(plan_file, flavour, device, messages, _diagnostics(runtime, plan_file, flavour))
    if engine.refittable and engine.get_engine_stat(trt.EngineStat.STRIPPED_WEIGHTS_SIZE) > 0:
        _refit(engine, plan_file, flavour, logger, messages)
    return runtime, engine


def explain(
    plan_file: PlanFile, flavour: Flavour, device: Device, messages: Messages, diagnostics: frozenset[str]
) -> YolotrtError:
    """Why a plan was refused, from what the runtime said, the plan's header and the manifest."""
    text = "; ".join(messages.errors)
    target = flavour.can.target or "tensorrt"
    if diagnostics & {"OLD_CUDA_DRIVER", "OLD_CUDA_RUNTIME"} or messages.driver_too_old:
        return CudaError(f"{flavour.title} needs a newer NVIDIA driver", remedy="Update the NVIDIA driver.")
    built_by = f"{flavour.can.title} {plan_file.version}"
    if version := _OTHER_VERSION.search(text):
        built_by = f"{flavour.can.title} {version[2] or plan_file.version or 'of another version'}"
        return _mismatch(plan_file, got=built_by, expected=flavour.title, target=target)
    if plan_file.version not in ("", flavour.version) or "VERSION_MISMATCH" in diagnostics:
        return _mismatch(plan_file, got=built_by, expected=flavour.title, target=target)
    if gpu := _OTHER_GPU.search(text):
        return _other_gpu(plan_file, gpu[2], device, target)
    if "UNSUPPORTED_CC" in diagnostics:
        built_for = ", ".join(plan_file.compute_capabilities) or "other GPUs"
        return _other_gpu(plan_file, built_for, device, target)
    if "OutOfMemory" in text or "out of memory" in text:
        return CudaError(
            f"{plan_file.path}: out of GPU memory", remedy="Free the GPU: nvidia-smi shows what runs on it."
        )
    # A damaged plan ends in a CUDA error too, but says first what it stumbled over.
    if "cudaError" in text and "Serialization" not in text:
        return CudaError(f"{plan_file.path}: CUDA failed while {flavour.title} loaded the plan: {messages.summary()}")
    return ModelError(
        f"{plan_file.path}: {flavour.title} cannot load the plan: {messages.summary()}",
        remedy=f"It may be damaged: export it again with: yolotrt export MODEL --target {target}",
    )


def tensors(engine: ICudaEngine, flavour: Flavour, where: str) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """Inputs and outputs of an engine. Raises ModelError for what is no YOLO."""
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []
    for i in range(engine.num_io_tensors):
        name = engine.get_tensor_name(i)
        dtype = engine.get_tensor_dtype(name).name
        if dtype not in DTYPES:
            raise ModelError(f"{where}: tensor {name} is of a dtype that yolotrt does not run", got=dtype)
        shape = tuple(None if side < 0 else side for side in engine.get_tensor_shape(name))
        tensor = TensorSpec(name=name, dtype=DTYPES[dtype], shape=shape)
        is_input = engine.get_tensor_mode(name) == flavour.module.TensorIOMode.INPUT
        (inputs if is_input else outputs).append(tensor)
    if len(inputs) != 1 or not outputs:
        raise ModelError(
            f"{where}: not a YOLO that yolotrt can run",
            got=f"{len(inputs)} inputs and {len(outputs)} outputs",
            expected="one picture input and at least one output",
        )
    return inputs, outputs


@dataclass(frozen=True, kw_only=True)
class InputRange:
    """The shapes that an engine's input takes: its first optimization profile.

    Attributes:
        min, opt, max: (N, C, H, W); all the same for a static engine.
    """

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]

    @classmethod
    def of(cls, engine: ICudaEngine, tensor: TensorSpec) -> InputRange:
        if None not in tensor.shape:
            shape = tuple(side for side in tensor.shape if side is not None)
            return cls(min=shape, opt=shape, max=shape)
        low, usual, high = (tuple(shape) for shape in engine.get_tensor_profile_shape(tensor.name, 0))
        return cls(min=low, opt=usual, max=high)

    @property
    def batch(self) -> BatchRange:
        return BatchRange(min=self.min[0], opt=self.opt[0], max=self.max[0])

    @property
    def is_open(self) -> bool:
        """Whether it takes more than one shape: TensorRT-RTX compiles for the others in the background then."""
        return self.min != self.max

    def takes(self, shape: tuple[int, ...]) -> bool:
        return len(shape) == len(self.min) and all(
            low <= side <= high for low, side, high in zip(self.min, shape, self.max, strict=True)
        )


def _refit(engine: ICudaEngine, plan_file: PlanFile, flavour: Flavour, logger: ILogger, messages: Messages) -> None:
    """Fill a stripped plan with the weights of the ONNX file it was built from."""
    if not flavour.can.refits_from_onnx:
        raise ModelError(
            f"{plan_file.path}: {flavour.title} cannot fill a plan that was built with strip",
            remedy="Load it with TensorRT itself, or export without strip.",
        )
    onnx = _weights_of(plan_file)
    trt = flavour.module
    refitter = trt.Refitter(engine, logger)
    parser = trt.OnnxParserRefitter(refitter, logger)
    if not parser.refit_from_file(str(onnx)) or not refitter.refit_cuda_engine():
        raise ModelError(
            f"{plan_file.path}: the weights of {onnx} do not fit the plan: {messages.summary()}",
            remedy="Export the model again.",
        )


def _weights_of(plan_file: PlanFile) -> Path:
    manifest = plan_file.manifest
    onnx = plan_file.path.with_name(manifest.onnx.file) if manifest else plan_file.path.with_suffix(".onnx")
    if not onnx.is_file():
        raise ModelError(
            f"{plan_file.path}: a plan without weights, and the ONNX file that holds them is missing",
            expected=onnx,
            remedy="Put it beside the plan, or export without strip.",
        )
    # Weights of another training fit just as well, and give wrong boxes in silence.
    if manifest is not None and files.sha256_of(onnx) != manifest.onnx.sha256:
        raise ModelError(
            f"{plan_file.path}: {onnx} is not the file that the plan was built from",
            remedy="Export the model again.",
        )
    return onnx


def _diagnostics(runtime: Runtime, plan_file: PlanFile, flavour: Flavour) -> frozenset[str]:
    """Names of what the runtime finds wrong with a plan; empty where it cannot tell."""
    if not flavour.can.explains_invalid_plans:
        return frozenset()
    # Its messages would only repeat what the failure said.
    with capture(flavour):
        _, bits = runtime.get_engine_validity(plan_file.plan)
    kinds = flavour.module.EngineInvalidityDiagnostics
    known = (kinds.VERSION_MISMATCH, kinds.UNSUPPORTED_CC, kinds.OLD_CUDA_DRIVER, kinds.OLD_CUDA_RUNTIME)
    return frozenset(kind.name for kind in known if bits & int(kind))


def _other_gpu(plan_file: PlanFile, built_for: str, device: Device, target: str) -> PlanMismatchError:
    return _mismatch(
        plan_file,
        got=f"a plan for compute capability {built_for}",
        expected=f"{device.compute_capability} ({device.name})",
        target=target,
        what="built for another GPU than the one here",
    )


def _mismatch(
    plan_file: PlanFile,
    *,
    got: str,
    expected: str,
    target: str,
    what: str = "built by another TensorRT than the one here",
    other: str = "",
) -> PlanMismatchError:
    rebuild = f"Build it again here with: yolotrt export MODEL --target {target}"
    return PlanMismatchError(
        f"{plan_file.path}: {what}",
        got=got,
        expected=expected,
        remedy=f"{rebuild}; or {other}" if other else rebuild,
    )

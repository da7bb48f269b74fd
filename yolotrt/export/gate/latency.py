"""How long the versions of a model take where they are meant to run. What cannot be measured is said, never guessed."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from yolotrt.backends import Backend, BackendInfo, BackendName, open_backend
from yolotrt.backends.flavours import Flavour
from yolotrt.errors import YolotrtError
from yolotrt.export.gate.proof import Latency
from yolotrt.export.gate.running import write_model
from yolotrt.model_files import ModelFiles
from yolotrt.model_spec import ModelSpec, Precision
from yolotrt.options import DetectOptions, PlanOptions, Target
from yolotrt.preprocess.letterbox_cpu import letterbox
from yolotrt.types import Batch, ImageU8

if TYPE_CHECKING:
    import onnx

_SECONDS = 2.0  # at most, for each version
_RUNS = 240  # at most, of each version
_ROUNDS = 12
_WARM_UP = 3


@dataclass(frozen=True, kw_only=True)
class Where:
    """What runs the versions for their latency.

    Attributes:
        target: of the export.
        flavour: builds the plans; None measures on the CPU.
        plan: how they are built.
    """

    target: Target
    flavour: Flavour | None
    plan: PlanOptions

    @property
    def problem(self) -> str:
        """Why nothing can be measured here; empty where it can."""
        from yolotrt.cuda.device import device_count

        if self.flavour is None or device_count():
            return ""
        return f"no GPU here that could run {self.flavour.can.title} plans"


def measure_latencies(
    models: Mapping[str, tuple[onnx.ModelProto, Precision]], spec: ModelSpec, where: Where, picture: ImageU8
) -> dict[str, Latency | str]:
    """Time all versions in turns, so that whatever else the machine does falls on all of them.

    Args:
        models: by name: the graph and its precision.
        spec: of the graphs.
        where: what runs them.
        picture: one like those that the model will see: what lies in it decides how many boxes are worked out.

    Returns:
        By name; a text where a version cannot be measured: why.
    """
    if where.problem:
        return dict.fromkeys(models, where.problem)
    found: dict[str, Latency | str] = {}
    opened: dict[str, _Ready] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="yolotrt-")))
        for number, (name, (model, precision)) in enumerate(models.items()):
            with _said(found, name):
                path = folder / f"{number}.onnx"
                described = write_model(path, model, spec, precision)
                opened[name] = stack.enter_context(_open(path, described, where, picture))
        found |= _time(opened, spec.batch.opt)
    return {name: found[name] for name in models}


@contextlib.contextmanager
def _said(found: dict[str, Latency | str], name: str) -> Iterator[None]:
    """Note an error of the block as the reason why this version is not measured."""
    try:
        yield
    except YolotrtError as e:
        found[name] = str(e)


@dataclass(frozen=True)
class _Ready:
    """A version that is loaded."""

    run: Callable[[], object]
    info: BackendInfo


@contextlib.contextmanager
def _open(path: Path, spec: ModelSpec, where: Where, picture: ImageU8) -> Iterator[_Ready]:
    """Load a version from its ONNX file as `Detector` would."""
    if where.flavour is None:
        files = ModelFiles(asked=path, onnx=path)
        name: BackendName = "openvino" if where.target == "openvino" else "auto"
        with open_backend(files, backend=name, device="cpu") as backend:
            yield _on_host(backend, spec, picture)
        return
    from yolotrt.backends.bare_engine import bare_engine
    from yolotrt.export.plan import build_plan

    plan = path.with_suffix(".engine")
    plan.write_bytes(build_plan(path, flavour=where.flavour, spec=spec, options=where.plan).data)
    if spec.is_dynamic_size:  # such a plan does not run as a CUDA graph
        with open_backend(ModelFiles(asked=plan, plan=plan)) as backend:
            yield _on_host(backend, spec, picture)
        return
    with bare_engine(plan, spec.batch.opt) as engine:
        yield _Ready(engine.run, engine.info)


def _on_host(backend: Backend, spec: ModelSpec, picture: ImageU8) -> _Ready:
    batch = _batch(spec, picture, channels_last=backend.channels_last)
    return _Ready(lambda: backend.infer(batch), backend.info)


def _time(opened: Mapping[str, _Ready], batch: int) -> dict[str, Latency | str]:
    samples: dict[str, list[float]] = {}
    for name, version in opened.items():
        for _ in range(_WARM_UP):
            version.run()
        samples[name] = []
    for _ in range(_ROUNDS):
        for name, version in opened.items():
            began = time.perf_counter()
            for _ in range(_RUNS // _ROUNDS):
                started = time.perf_counter()
                version.run()
                ended = time.perf_counter()
                samples[name].append(ended - started)
                if ended - began > _SECONDS / _ROUNDS:
                    break
    return {name: _latency(values, opened[name].info, batch) for name, values in samples.items()}


def _latency(seconds: Sequence[float], info: BackendInfo, batch: int) -> Latency:
    p50, p90 = np.percentile(np.array(seconds) * 1e3, [50, 90]).tolist()
    return Latency(p50_ms=round(p50, 3), p90_ms=round(p90, 3), runs=len(seconds), batch=batch, runtime=str(info))


def _batch(spec: ModelSpec, picture: ImageU8, *, channels_last: bool) -> Batch:
    """One picture, repeated, as a detector hands it to the model by default, but always in the model's own size."""
    if spec.letterbox.resize == "minimal":
        spec = dataclasses.replace(spec, letterbox=dataclasses.replace(spec.letterbox, resize="fit"))
    found = letterbox([picture] * spec.batch.opt, spec, channels_last=channels_last)
    return dataclasses.replace(found, above=DetectOptions().conf)

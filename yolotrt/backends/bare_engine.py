"""The engine of a plan alone, as a CUDA graph: what a detector runs between letterbox and decoding."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yolotrt.backends.base import BackendInfo
from yolotrt.backends.tensorrt_engine import find_plan
from yolotrt.backends.tensorrt_graph import TensorRTGraphEngine
from yolotrt.cuda.gpu import gpu

_WIDEST = 8  # bytes of the widest dtype that an engine gives


@dataclass(frozen=True)
class BareEngine:
    """An engine that is recorded.

    Attributes:
        run: launch it once and wait for it. The input is whatever lies in its memory.
        info: what runs it.
    """

    run: Callable[[], None]
    info: BackendInfo


@contextlib.contextmanager
def bare_engine(plan: Path, batch: int, *, device: int = 0) -> Iterator[BareEngine]:
    """An engine with nothing around it, until the block ends.

    Args:
        plan: the plan file.
        batch: pictures of one inference.
        device: number of the GPU.

    Raises:
        ModelError, BackendError, CudaError: as `open_graphs`; the engine cannot be recorded.
    """
    plan_file, flavour, found = find_plan(plan, device=device)
    machine = gpu(found)
    engine = TensorRTGraphEngine(plan_file, flavour, found, machine)
    with contextlib.ExitStack() as opened:
        opened.callback(engine.close)
        # The GPU is current until all of it is freed.
        with machine.active(), contextlib.ExitStack() as held:
            queue = held.enter_context(contextlib.closing(machine.queue()))
            lane = held.enter_context(contextlib.closing(engine.lane(queue)))
            shapes = {engine.spec.input.name: (batch, 3, *engine.spec.imgsz), **engine.output_shapes(batch)}
            memory = {
                name: held.enter_context(contextlib.closing(machine.allocate(_WIDEST * int(np.prod(shape)))))
                for name, shape in shapes.items()
            }
            enqueue = lane.prepare(batch, {name: part.address for name, part in memory.items()})
            recording = held.enter_context(contextlib.closing(queue.record(enqueue)))

            def run() -> None:
                with machine.active():
                    queue.replay(recording)
                    queue.wait()

            yield BareEngine(run, engine.info)

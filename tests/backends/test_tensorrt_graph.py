"""A detector on CUDA graphs, on a machine without a GPU: kernels as host code, ONNX Runtime in place of TensorRT."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.backends.test_cuda_graph import BATCHES, PICTURES, assert_same
from tests.support.cuda_host.engine import OnnxEngine
from tests.support.cuda_host.machine import HostMachine, HostQueue, HostRecording
from tests.support.tiny_models import tiny_yolo
from yolotrt import Detections, Detector
from yolotrt.backends import Backend, tensorrt_graph
from yolotrt.backends.cuda_graph import GraphRunner
from yolotrt.backends.onnx_runtime import OnnxRuntimeBackend
from yolotrt.backends.pictures import PictureBackend
from yolotrt.backends.tensorrt_family import TensorRTBackend
from yolotrt.backends.tensorrt_graph import TensorRTGraphBackend
from yolotrt.errors import BackendError, CudaError, ModelError, PlanMismatchError, UsageError, YolotrtError
from yolotrt.model_spec_infer import read_onnx_spec
from yolotrt.options import DetectOptions
from yolotrt.preprocess.letterbox_cpu import letterbox
from yolotrt.types import Frame


@pytest.fixture
def machine() -> HostMachine:
    return HostMachine()


@pytest.fixture
def plan(tmp_path: Path, machine: HostMachine, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is opened as a plan: what is behind it needs no GPU."""
    onnx, engine = tiny_yolo(tmp_path / "m.onnx", batch=None), tmp_path / "m.engine"

    def open_graphs(path: Path, *, device: int = 0) -> GraphRunner:
        assert (path, device) == (engine, 1)
        return GraphRunner(machine, OnnxEngine(onnx, machine, batch=BATCHES))

    monkeypatch.setattr(tensorrt_graph, "open_graphs", open_graphs)
    engine.write_bytes(b"")
    return engine


@pytest.fixture
def detector(plan: Path, machine: HostMachine) -> Iterator[Detector]:
    with Detector(plan, device="cuda:1", graphs=True) as made:
        yield made
    assert machine.open == 0


@pytest.fixture
def wanted(tmp_path: Path, plan: Path) -> list[Detections]:
    with Detector(tmp_path / "m.onnx", backend="onnxruntime") as cpu:
        return cpu(PICTURES)


def test_a_detector_gives_the_boxes_of_the_cpu(detector: Detector, wanted: list[Detections]) -> None:
    assert_same(detector(PICTURES), wanted)
    assert_same([detector(PICTURES[0])], wanted[:1])
    assert detector([]) == []


def test_frames_keep_their_options_and_times(detector: Detector, wanted: list[Detections]) -> None:
    frames = [
        Frame(picture=pixels, source_id="here", index=i, decode_s=0.5, options=DetectOptions(max_det=1) if i else None)
        for i, pixels in enumerate(PICTURES[:3])
    ]
    results = detector.detect_frames(frames)
    assert [r.frame for r in results] == frames
    assert_same([r.detections for r in results], [wanted[0], wanted[1][:1], wanted[2][:1]])
    for r in results:
        assert (r.seconds.decode, r.seconds.preprocess, r.seconds.postprocess) == (0.5, 0, 0)
        assert r.seconds.inference > 0


def test_streams_run_several_batches_at_a_time(detector: Detector, wanted: list[Detections]) -> None:
    batches = [[Frame(picture=PICTURES[i % 10], source_id="s", index=i)] for i in range(30)]
    results = list(detector.detect_batches(batches))
    assert [r.frame.index for r in results] == list(range(30))
    assert_same([r.detections for r in results], [wanted[i % 10] for i in range(30)])


def test_threads_share_a_detector(detector: Detector, wanted: list[Detections]) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert_same(list(pool.map(lambda i: detector(PICTURES[i % 10]), range(30))), wanted * 3)


def test_raw_outputs_are_refused(detector: Detector, plan: Path) -> None:
    with pytest.raises(BackendError, match="gives boxes, not the outputs"):
        detector._backend.infer(letterbox(PICTURES[:1], detector.spec))


def test_a_closed_detector(plan: Path, machine: HostMachine) -> None:
    detector = Detector(plan, device=1, graphs=True)
    detector.close()
    with pytest.raises(BackendError, match="closed"):
        detector(np.zeros((8, 8, 3), np.uint8))
    assert machine.open == 0


def test_a_failure_of_the_first_recording_leaves_nothing_open(plan: Path, machine: HostMachine) -> None:
    machine.memory = 1000
    with pytest.raises(CudaError, match="cannot be allocated"):
        Detector(plan, device=1, graphs=True)
    assert machine.open == 0


def test_graphs_are_for_plans(tmp_path: Path, plan: Path) -> None:
    with pytest.raises(UsageError, match="cannot run in back-end tensorrt"):
        Detector(tmp_path / "m.onnx", graphs=True)
    with pytest.raises(UsageError, match="option graphs is for TensorRT plans, got back-end onnxruntime"):
        Detector(tmp_path / "m.onnx", backend="onnxruntime", graphs=True)


def test_a_plan_runs_as_graphs_unless_told_otherwise(plan: Path, through_the_host: list[Path]) -> None:
    with Detector(plan, device=1) as chosen:
        assert isinstance(chosen.backend, TensorRTGraphBackend)
        assert chosen.info.note == ""
    assert through_the_host == []
    with Detector(plan, device=1, graphs=False) as other:
        assert not isinstance(other.backend, PictureBackend)
    assert through_the_host == [plan]


def test_a_plan_that_cannot_run_as_graphs(
    plan: Path, through_the_host: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_graphs(monkeypatch, ModelError("height and width change"))
    with pytest.raises(ModelError, match="height and width change"):
        Detector(plan, device=1, graphs=True)
    with Detector(plan, device=1) as detector:
        assert detector.info.note == "not as CUDA graphs: height and width change"
    assert through_the_host == [plan]


def test_a_plan_of_another_version_is_refused_at_once(
    plan: Path, through_the_host: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_graphs(monkeypatch, PlanMismatchError("another version"))
    with pytest.raises(PlanMismatchError):
        Detector(plan, device=1)
    assert through_the_host == []


def refuse_graphs(monkeypatch: pytest.MonkeyPatch, error: YolotrtError) -> None:
    """Let no plan be opened as CUDA graphs."""

    def refuse(path: Path, *, device: int = 0) -> GraphRunner:
        raise error

    monkeypatch.setattr(tensorrt_graph, "open_graphs", refuse)


@pytest.fixture
def through_the_host(plan: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The plans that were opened to be run through the host; ONNX Runtime runs them."""
    opened: list[Path] = []

    def open_plan(path: Path, *, device: int = 0) -> Backend:
        assert device == 1
        opened.append(path)
        onnx = path.with_suffix(".onnx")
        return OnnxRuntimeBackend(onnx, read_onnx_spec(onnx))

    monkeypatch.setattr(TensorRTBackend, "open", open_plan)
    return opened


def test_what_runs_is_told(plan: Path) -> None:
    backend = TensorRTGraphBackend.open(plan, device=1)
    assert backend.info == backend.runner.info
    assert backend.side_by_side() == (backend,) * backend.runner.lanes
    backend.close()


def test_a_recording_that_was_disturbed_is_made_the_next_time(
    detector: Detector, machine: HostMachine, wanted: list[Detections]
) -> None:
    engine = engine_of(detector)
    engine.cannot_be_recorded = True
    assert_same([detector(PICTURES[0])], wanted[:1])
    assert detector.info.note == "without a CUDA graph: a CUDA graph cannot be recorded"
    assert machine.replays == 0
    engine.cannot_be_recorded = False
    for _ in range(2):
        assert_same([detector(PICTURES[0])], wanted[:1])
    assert machine.replays == 2
    assert detector.info.note == ""
    assert engine.prepared == [4, 1], "an engine is made ready once, however often it is recorded"


def test_a_recording_that_fails_each_time_is_given_up(
    plan: Path, machine: HostMachine, wanted: list[Detections], monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = []
    record = HostQueue.record

    def refused(self: HostQueue, work: Callable[[], None]) -> HostRecording:
        attempts.append(work)
        if len(attempts) <= 3:
            raise CudaError("a CUDA graph cannot be recorded")
        return record(self, work)

    monkeypatch.setattr(HostQueue, "record", refused)
    with Detector(plan, device="cuda:1", graphs=True) as detector:  # the first attempt
        for _ in range(5):
            assert_same(detector(PICTURES[:4]), wanted[:4])
        assert len(attempts) == 3
        assert machine.replays == 0
        assert "without a CUDA graph" in detector.info.note
        assert_same([detector(PICTURES[0])], wanted[:1])
        assert machine.replays == 1, "other sizes are tried for themselves"
        assert "without a CUDA graph" in detector.info.note


def test_a_note_of_others_is_kept(detector: Detector) -> None:
    backend, engine = detector.backend, engine_of(detector)
    engine.cannot_be_recorded = True
    detector(PICTURES[0])
    backend.info = dataclasses.replace(backend.info)
    assert backend.info.note.startswith("without a CUDA graph")
    engine.cannot_be_recorded = False
    detector(PICTURES[0])
    assert backend.info.note == ""
    backend.info = dataclasses.replace(backend.info, note="of others")
    assert backend.info.note == "of others"


def engine_of(detector: Detector) -> OnnxEngine:
    assert isinstance(detector.backend, TensorRTGraphBackend)
    engine = detector.backend.runner._engine
    assert isinstance(engine, OnnxEngine)
    return engine

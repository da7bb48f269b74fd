"""Bundles are whole or absent, and an older one survives everything."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from yolotrt.errors import SinkError
from yolotrt.export.bundle import BundlePaths, bundles_in, commit, is_intact, latest_bundle, read_older, staging
from yolotrt.files import sha256_of
from yolotrt.manifest import FileRecord, Manifest, PlanRecord
from yolotrt.model_spec import ModelSpec, TensorSpec

SPEC = ModelSpec(
    head="anchor_free",
    names=("a",),
    imgsz=(64, 64),
    input=TensorSpec(name="x", dtype="float32", shape=(1, 3, 64, 64)),
    outputs=(TensorSpec(name="y", dtype="float32", shape=(1, 5, 84)),),
)


def paths_in(folder: Path) -> BundlePaths:
    return BundlePaths(folder=folder / "m-fp32", name="m-fp32")


def write(paths: BundlePaths, content: str, *, plan: bool = False, report: bool = False) -> Manifest:
    older = read_older(paths)
    with staging(paths) as folder:
        (folder / paths.onnx.name).write_text(content)
        if plan:
            (folder / paths.plan.name).write_text(f"plan of {content}")
        if report:
            (folder / paths.report.name).write_text(f"report of {content}")
            (folder / paths.report.with_suffix(".json").name).write_text("{}")
        manifest = Manifest(
            name=paths.name,
            created=f"2026-{content}",
            yolotrt="0",
            spec=SPEC,
            source=FileRecord(file="m.pt", sha256="0"),
            precision_asked="fp32",
            inputs_digest="a-b",
            onnx=FileRecord(file=paths.onnx.name, sha256=sha256_of(folder / paths.onnx.name)),
            plan=PlanRecord(file=paths.plan.name, sha256=sha256_of(folder / paths.plan.name), flavour="f", version="1")
            if plan
            else None,
            report=FileRecord(file=paths.report.name, sha256=sha256_of(folder / paths.report.name)) if report else None,
        )
        commit(folder, paths, manifest, older)
    return manifest


def fail_while_staging(paths: BundlePaths, error: type[BaseException]) -> None:
    with staging(paths) as folder:
        (folder / paths.onnx.name).write_text("half")
        raise error


def files_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_a_bundle_holds_three_files_and_nothing_else(tmp_path: Path) -> None:
    paths = paths_in(tmp_path)
    manifest = write(paths, "one", plan=True)
    assert files_in(paths.folder) == ["m-fp32.engine", "m-fp32.json", "m-fp32.onnx"]
    assert read_older(paths) == manifest
    assert is_intact(paths, manifest.onnx)
    assert is_intact(paths, manifest.plan)
    assert not is_intact(paths, None)


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    paths = paths_in(tmp_path)
    paths.folder.mkdir()
    (paths.folder / "notes.txt").write_text("mine")
    write(paths, "one", plan=True, report=True)
    write(paths, "two")
    assert files_in(paths.folder) == ["m-fp32.json", "m-fp32.onnx", "notes.txt"], "the older plan and report are gone"
    assert paths.onnx.read_text() == "two"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_older_bundle_or_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    paths = paths_in(tmp_path)
    with pytest.raises(error):
        fail_while_staging(paths, error)
    assert not paths.folder.exists()
    older = write(paths, "one")
    with pytest.raises(error):
        fail_while_staging(paths, error)
    assert files_in(paths.folder) == ["m-fp32.json", "m-fp32.onnx"]
    assert is_intact(paths, older.onnx)


def test_a_move_that_was_killed_is_finished_next_time(tmp_path: Path) -> None:
    paths = paths_in(tmp_path)
    write(paths, "one")
    newer = write(BundlePaths(folder=tmp_path / "elsewhere", name=paths.name), "two")
    (tmp_path / "elsewhere").rename(paths.ready)
    (paths.ready / paths.onnx.name).replace(paths.onnx)  # killed after the first of two files
    assert read_older(paths) == newer
    assert is_intact(paths, newer.onnx)
    assert files_in(paths.folder) == ["m-fp32.json", "m-fp32.onnx"]


def test_an_interrupt_while_moving_finishes_the_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = paths_in(tmp_path)
    write(paths, "one")
    move, calls = Path.replace, []

    def interrupted(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return move(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(paths, "two")
    monkeypatch.undo()
    found = Manifest.read(paths.manifest)
    assert is_intact(paths, found.onnx)
    assert files_in(paths.folder) == ["m-fp32.json", "m-fp32.onnx"]


def test_two_exports_move_their_files_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fcntl")
    paths = paths_in(tmp_path)
    move, moving, go_on = Path.replace, threading.Event(), threading.Event()

    def slow(self: Path, target: Path) -> Path:
        if self.parent == paths.ready and not moving.is_set():
            moving.set()
            assert go_on.wait(10)
        return move(self, target)

    monkeypatch.setattr(Path, "replace", slow)
    with ThreadPoolExecutor(2) as pool:
        try:
            first = pool.submit(write, paths, "one")
            assert moving.wait(10)
            second = pool.submit(write, paths, "two")
            wait([second], timeout=0.3)
        finally:
            go_on.set()
        assert first.result(10).created == "2026-one"
        assert second.result(10) == read_older(paths)
    assert is_intact(paths, second.result().onnx)
    assert files_in(paths.folder) == ["m-fp32.json", "m-fp32.onnx"]


def test_what_killed_exports_left_is_removed_but_not_what_runs(tmp_path: Path) -> None:
    paths = paths_in(tmp_path)
    abandoned = paths.folder / f"{paths.part}dead"
    abandoned.mkdir(parents=True)
    (abandoned / "half").write_text("x")
    with staging(paths) as running:
        assert not abandoned.exists()
        with staging(paths):
            assert running.exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/yolotrt")):
        with pytest.raises(SinkError, match=f"cannot write {folder}"), staging(BundlePaths(folder=folder, name="m")):
            pytest.fail("staged there")


def test_the_latest_bundle(tmp_path: Path) -> None:
    assert latest_bundle(tmp_path) is None
    first = BundlePaths(folder=tmp_path / "a", name="a")
    second = BundlePaths(folder=tmp_path, name="b")
    write(first, "one")
    write(second, "two")
    (tmp_path / "annotations.json").write_text("{}")
    (tmp_path / "broken.json").write_text('{"format": "yolotrt-manifest"')
    hidden = tmp_path / ".hidden"
    hidden.mkdir()
    (hidden / "c.json").write_text(second.manifest.read_text())
    os.utime(first.manifest, (1, 1))
    assert latest_bundle(tmp_path) == second.manifest
    os.utime(first.manifest)
    os.utime(second.manifest, (1, 1))
    assert latest_bundle(tmp_path) == first.manifest
    first.onnx.unlink()
    assert latest_bundle(tmp_path) == second.manifest
    assert bundles_in(tmp_path) == [(first.manifest, "a.onnx"), (second.manifest, None)]


def test_a_bundle_without_its_plan_is_not_whole(tmp_path: Path) -> None:
    paths = paths_in(tmp_path)
    write(paths, "one", plan=True)
    assert latest_bundle(tmp_path) == paths.manifest
    paths.plan.unlink()
    assert bundles_in(tmp_path) == [(paths.manifest, "m-fp32.engine")]
    assert latest_bundle(tmp_path) is None

"""A calibration is measured once; what is kept of it gives the same graph to the bit."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from tests.export.quantize.graphs import SIDE, conv_silu, graph
from tests.support.media import picture
from tests.support.specs import make_spec
from yolotrt.errors import ExportError
from yolotrt.export.quantize import Calibration, QuantizeOptions
from yolotrt.export.quantize.cache import MOST, measured
from yolotrt.export.quantize.pictures import CalibrationPictures
from yolotrt.model_spec import LetterboxRule
from yolotrt.types import ImageU8

WIDTH = 24
SPEC = make_spec(imgsz=(SIDE, SIDE))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the entries."""
    monkeypatch.setenv("YOLOTRT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "calibration"


def network(seed: int = 0) -> onnx.ModelProto:
    """One that is wide enough for FP8."""
    dice = np.random.default_rng(seed)
    constants = {
        "stem_weight": dice.standard_normal((WIDTH, 3, 3, 3), np.float32) / 4,
        "w": dice.standard_normal((WIDTH, WIDTH, 3, 3), np.float32) / 16,
        "b": dice.standard_normal(WIDTH, np.float32) / 8,
    }
    return graph([*conv_silu("x", "a"), *conv_silu("a", "t")], constants)


@dataclass
class Counted:
    """Random pictures, and how often they were asked for."""

    count: int = 6
    passes: list[int] = field(default_factory=list)

    def __call__(self) -> Iterator[ImageU8]:
        self.passes.append(0)
        for seed in range(self.count):
            self.passes[-1] += 1
            yield np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def pictures(images: Counted, digest: str = "d") -> CalibrationPictures:
    return CalibrationPictures(source="random", count=images.count, digest=digest, images=images)


def graphs_of(calibration: Calibration) -> list[bytes]:
    return [calibration.quantize(kind=k).model.SerializeToString(deterministic=True) for k in ("int8", "fp8")]


def test_what_is_kept_gives_the_same_graphs_without_a_look_at_the_pictures() -> None:
    model, images = network(), Counted()
    plain = Calibration.measure(model, lambda: pictures(images).batches(SPEC))
    expected = graphs_of(plain)
    first, reused = measured(model, pictures(images), SPEC)
    assert not reused
    assert graphs_of(first) == expected
    images.passes.clear()
    second, reused = measured(model, pictures(images), SPEC)
    assert reused
    assert graphs_of(second) == expected
    assert images.passes == []
    assert (second.pictures, second.digest, second.fp16) == (plain.pictures, plain.digest, plain.fp16)
    # What was not asked for before is measured still.
    options = QuantizeOptions(correct_bias=True)
    assert second.quantize(kind="int8", options=options).scales == plain.quantize(kind="int8", options=options).scales
    assert images.passes


def test_ranges_are_chosen_for_one_version(cache: Path) -> None:
    images = Counted()
    found, _ = measured(network(), pictures(images), SPEC)
    found.quantize(kind="int8")
    looked = len(images.passes)
    found.quantize(kind="int8")
    assert len(images.passes) == looked
    some = found.quantize(kind="int8", keep=lambda node: node.name == "a_conv")
    assert some.quantized == ("stem_conv", "t_conv")
    minmax = found.quantize(kind="int8", options=QuantizeOptions(method="minmax"))
    assert set(minmax.methods.values()) == {"minmax"}
    assert len(list(cache.glob("*/ranges-*.json"))) == 3


@pytest.mark.parametrize("change", ["model", "pictures", "letterbox"])
def test_other_inputs_are_measured_anew(change: str) -> None:
    model, images = network(), Counted()
    measured(model, pictures(images), SPEC)
    if change == "model":
        model = network(seed=1)
    spec = replace(SPEC, letterbox=LetterboxRule(pad_value=0)) if change == "letterbox" else SPEC
    assert not measured(model, pictures(images, "other" if change == "pictures" else "d"), spec)[1]


def test_metadata_and_names_do_not_matter() -> None:
    model, images = network(), Counted()
    measured(model, pictures(images), SPEC)
    onnx.helper.set_model_props(model, {"date": "tomorrow"})
    assert measured(model, pictures(images), replace(SPEC, names=("a", "b", "c")))[1]


@pytest.mark.parametrize("name", ["measured.npz", "ranges-*.json", "weights-*.npz"])
@pytest.mark.parametrize("damage", ["empty", "cut", "nonsense", "flipped", "gone", "foreign"])
def test_a_damaged_file_is_made_again(cache: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    model, images = network(), Counted()
    expected = graphs_of(measured(model, pictures(images), SPEC)[0])
    for path in cache.glob(f"*/{name}"):
        data = path.read_bytes()
        middle = len(data) // 2
        kinds = {
            "empty": b"",
            "cut": data[:middle],
            "nonsense": b"\xff" * 100,
            "flipped": data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :],
            "foreign": b'{"a": 1}',
        }
        path.unlink()
        if damage in kinds:
            path.write_bytes(kinds[damage])
    with caplog.at_level(logging.INFO):
        again, reused = measured(model, pictures(images), SPEC)
        assert graphs_of(again) == expected
    assert reused == (name != "measured.npz")
    assert ("is damaged and will be made again" in caplog.text) == (damage != "gone")
    assert not [r for r in caplog.records if r.levelno > logging.INFO]
    images.passes.clear()
    whole, reused = measured(model, pictures(images), SPEC)
    assert (graphs_of(whole), reused, images.passes) == (expected, True, [])


def test_the_entries_used_last_are_kept(cache: Path) -> None:
    model, images = network(), Counted(1)
    measured(model, pictures(images, "mine"), SPEC)
    (mine,) = cache.iterdir()
    for i in range(MOST + 5):
        (cache / f"other{i}").mkdir()
        os.utime(cache / f"other{i}", (1000 + i, 1000 + i))
    os.utime(mine, (1, 1))
    assert measured(model, pictures(images, "mine"), SPEC)[1]
    kept = {e.name for e in cache.iterdir()}
    assert kept == {mine.name, *(f"other{i}" for i in range(6, MOST + 5))}


def test_a_cache_that_cannot_be_written_is_no_error(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache.parent.mkdir()
    cache.write_text("a file where the folder should be")
    model, images = network(), Counted()
    expected = graphs_of(Calibration.measure(model, lambda: pictures(images).batches(SPEC)))
    found, reused = measured(model, pictures(images), SPEC)
    assert (graphs_of(found), reused) == (expected, False)
    assert "the calibration is not kept in" in caplog.text
    assert cache.is_file()


def test_progress_is_that_of_the_pass_over_all_pictures() -> None:
    said: list[str] = []
    measured(network(), pictures(Counted(3)), SPEC, on_progress=said.append)
    assert said == [f"{i} of 3 calibration pictures" for i in (1, 2, 3)]


def test_nothing_is_kept_of_what_failed(cache: Path) -> None:
    with pytest.raises(ExportError, match="without calibration pictures"):
        measured(network(), pictures(Counted(0)), SPEC)
    assert not cache.exists()


MEASURE = """
import hashlib
from tests.export.quantize.test_cache import SPEC, Counted, graphs_of, measured, network, pictures
found, reused = measured(network(), pictures(Counted()), SPEC)
print(reused, hashlib.sha256(b"".join(graphs_of(found))).hexdigest())
"""


def test_several_processes_share_it(cache: Path) -> None:
    def start(seed: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        return subprocess.Popen([sys.executable, "-c", MEASURE], stdout=subprocess.PIPE, text=True, env=environment)

    running = [start("1"), start("2")]
    outputs = [p.communicate(timeout=120)[0].split() for p in running]
    assert [p.returncode for p in running] == [0, 0]
    last = start("3").communicate(timeout=120)[0].split()
    assert last[0] == "True"
    assert {o[1] for o in outputs} == {last[1]}
    (entry,) = cache.iterdir()
    kept = sorted(p.name.partition("-")[0] for p in entry.iterdir())
    assert kept == ["measured.npz", *["ranges"] * 2, *["weights"] * 5], "of two formats; FP8 leaves the first out"


PEAK = """
import resource, sys
from pathlib import Path
from tests.export.quantize.test_cache import SPEC, measured, network
from yolotrt.export.quantize.pictures import find_calibration
found = find_calibration(calib=Path(sys.argv[1]), data=None, count=int(sys.argv[2]))
measured(network(), found, SPEC)[0].quantize(kind="int8")
print(found.count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path: Path) -> None:
    one = cv2.imencode(".jpg", picture((480, 640)))[1].tobytes()
    (tmp_path / "pictures").mkdir()
    for i in range(1024):
        (tmp_path / "pictures" / f"{i}.jpg").write_bytes(one)

    def peak(count: int) -> int:
        command = [sys.executable, "-c", PEAK, str(tmp_path / "pictures"), str(count)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=200)
        used, mebibytes = map(int, done.stdout.split())
        assert used == count
        return mebibytes

    # Kept, the pixels of the others would be 787 MiB.
    assert peak(1024) < peak(128) + 60

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support.command_line import CommandLine, Outcome
from tests.support.manifests import manifest_of
from tests.support.media import cut, moving_box, picture, video_times, write_video
from tests.support.rtsp import free_port
from tests.support.tiny_models import BLUE, RED, tiny_yolo
from yolotrt import cli


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a model, two pictures and a video."""
    tiny_yolo(tmp_path / "tiny.onnx")
    cv2.imwrite(str(tmp_path / "red.png"), picture())
    cv2.imwrite(str(tmp_path / "blue.png"), picture(colour=BLUE))
    write_video(tmp_path / "video.mp4", moving_box(20))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def detect(work: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> _Detect:
    return _Detect(monkeypatch, capfd)


class _Detect:
    """Runs `yolotrt detect` in this process, through the same door as the shell."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._run = CommandLine(monkeypatch, capfd)

    def __call__(self, *arguments: str, model: str | None = "tiny.onnx") -> Outcome:
        named = [] if model is None else ["--model", model, "--backend", "onnxruntime"]
        return self._run("detect", *named, *arguments)


def _shell(*arguments: str, **environment: str) -> Outcome:
    run = subprocess.run(
        [sys.executable, "-m", "yolotrt", "detect", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2]), **environment},
    )
    return Outcome(code=run.returncode, out=run.stdout, err=run.stderr)


def test_pictures_and_a_video(detect: _Detect, work: Path) -> None:
    run = detect("red.png", "blue.png", "video.mp4", "--save", "out", "--jsonl", "out/boxes.jsonl")
    assert run.code == 0
    assert "tiny.onnx, in onnxruntime" in run.err
    assert "on cpu, fp32" in run.err
    for word in (
        "frames",
        "22",
        "boxes",
        "frames/s",
        "decode",
        "preprocess",
        "inference",
        "postprocess",
        "draw, write",
    ):
        assert word in run.out
    assert sorted(p.name for p in (work / "out").iterdir()) == ["blue.png", "boxes.jsonl", "red.png", "video.mp4"]
    assert len(video_times(work / "out" / "video.mp4")) == 20
    lines = [json.loads(line) for line in (work / "out" / "boxes.jsonl").read_text().splitlines()]
    assert [line["source"] for line in lines[:3]] == ["red.png", "blue.png", "video.mp4"]
    assert [{box["name"] for box in line["boxes"]} for line in lines[:2]] == [{"red"}, {"blue"}]


def test_json_lines_on_standard_output_and_nothing_else_there(detect: _Detect) -> None:
    run = detect("video.mp4", "--jsonl", "-")
    assert run.code == 0
    assert [json.loads(line)["index"] for line in run.out.splitlines()] == list(range(20))
    assert "frames/s" in run.err


def test_json_summary_and_nothing_else_there(detect: _Detect) -> None:
    run = detect("video.mp4", "red.png", "--json", "--save", "out")
    summary = json.loads(run.out)
    assert (run.code, summary["frames"], summary["problems"]) == (0, 21, [])
    assert summary["backend"]["backend"] == "onnxruntime"
    assert summary["model"] == "tiny.onnx"
    assert summary["classes"]["red"] == summary["boxes"]
    assert set(summary["ms_per_frame"]) == {"decode", "preprocess", "inference", "postprocess", "write"}
    assert summary["outputs"] == [str(Path("out", "video.mp4")), str(Path("out", "red.png"))]


def test_two_runs_give_the_same_lines(detect: _Detect, work: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        assert detect("video.mp4", "red.png", "--jsonl", name).code == 0
    assert (work / "a.jsonl").read_bytes() == (work / "b.jsonl").read_bytes()


def test_filters(detect: _Detect, work: Path) -> None:
    def found(*options: str, pictures: tuple[str, ...] = ("red.png", "blue.png")) -> list[str]:
        run = detect(*pictures, "--jsonl", "-", *options)
        assert run.code == 0, run.err
        return [box["name"] for line in run.out.splitlines() for box in json.loads(line)["boxes"]]

    everything = found()
    assert set(everything) == {"red", "blue"}
    assert set(found("--classes", "blue")) == {"blue"}
    assert found("--classes", "0, blue") == everything
    assert found("--conf", "0.99") == []
    assert len(found("--conf", "0.01", "--iou", "1")) > len(everything)
    assert len(found("--conf", "0.01", "--iou", "1", "--max-det", "1")) == 2
    red_over_blue = np.vstack([picture((16, 64), box=(0, 0, 64, 16), colour=colour) for colour in (RED, BLUE)])
    cv2.imwrite(str(work / "both.png"), np.vstack([red_over_blue, picture((32, 64), box=None)]))
    agnostic = found("--agnostic", "--iou", "0", pictures=("both.png",))
    assert 0 < len(agnostic) < len(found("--iou", "0", pictures=("both.png",)))
    (work / "options.yaml").write_text("classes: [red]\n")
    assert set(found("--config", "options.yaml")) == {"red"}
    assert set(found("--config", "options.yaml", "--classes", "blue")) == {"blue"}


_STREAMS = """
save: out
streams:
  - url: video.mp4
    name: first
    stride: 4
    jsonl: first.jsonl
  - url: video.mp4
    classes: [blue]
    roi: [0.0, 0.0, 0.5, 1.0]
  - folder
"""


def test_streams_of_a_file(detect: _Detect, work: Path) -> None:
    (work / "streams.yaml").write_text(_STREAMS)
    (work / "folder").mkdir()
    for name in ("1.png", "2.png"):
        cv2.imwrite(str(work / "folder" / name), picture(colour=BLUE))
    run = detect("--config", "streams.yaml", "--jsonl", "all.jsonl", "--json")
    assert run.code == 0, run.err
    summary = json.loads(run.out)
    assert [(s["name"], s["read"], s["processed"], s["skipped"]) for s in summary["streams"]] == [
        ("first", 20, 5, 15),
        ("video.mp4", 20, 20, 0),
        ("2 pictures", 2, 2, 0),
    ]
    lines = [json.loads(line) for line in (work / "all.jsonl").read_text().splitlines()]
    assert len(lines) == 27
    assert [json.loads(line)["index"] for line in (work / "first.jsonl").read_text().splitlines()] == [0, 4, 8, 12, 16]
    assert len(video_times(work / "out" / "video.mp4")) == 5
    assert len(video_times(work / "out" / "video-2.mp4")) == 20
    first = (work / "all.jsonl").read_bytes()
    assert detect("--config", "streams.yaml", "--jsonl", "all.jsonl").code == 0
    assert (work / "all.jsonl").read_bytes() == first


def test_the_table_of_streams(detect: _Detect, work: Path) -> None:
    (work / "streams.yaml").write_text("streams: [video.mp4, red.png]\n")
    run = detect("--config", "streams.yaml", "blue.png", "--stride", "2")
    rows = {line.split()[0]: line.split()[1:4] for line in run.out.splitlines() if line.strip()}
    assert (rows["video.mp4"], rows["red.png"], rows["blue.png"]) == (
        ["ended", "20", "10"],
        ["ended", "1", "1"],
        ["ended", "1", "1"],
    )


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_table_of_streams_on_a_terminal(work: Path) -> None:
    import pty

    (work / "streams.yaml").write_text("streams: [{url: video.mp4, name: first}, {url: video.mp4, name: second}]\n")
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "yolotrt", "detect", "--config", "streams.yaml", "--model", "tiny.onnx"],
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2]), "TERM": "xterm"},
        stdout=subprocess.DEVNULL,
        stderr=end,
    )
    os.close(end)
    shown = b""
    try:
        while data := os.read(terminal, 65536):
            shown += data
    except OSError:  # Linux's way to say that the other end is closed
        pass
    os.close(terminal)
    assert process.wait(60) == 0
    text = shown.decode()
    assert "processed" in text
    assert "first" in text
    assert "second" in text


def test_two_streams_do_not_write_to_one_file(detect: _Detect, work: Path) -> None:
    (work / "streams.yaml").write_text("streams: [{url: red.png, jsonl: a}, {url: blue.png, jsonl: ./a}]\n")
    run = detect("--config", "streams.yaml")
    assert run.code == 2
    assert "two streams would write to" in run.err
    (work / "streams.yaml").write_text("streams: [{url: red.png, jsonl: '-'}, {url: blue.png, jsonl: '-'}]\n")
    assert "two streams would write to /dev/stdout" in detect("--config", "streams.yaml").err


def test_a_password_is_never_shown(detect: _Detect, work: Path) -> None:
    address = f"rtsp://viewer:s3cret@127.0.0.1:{free_port()}/1"
    run = detect(address, "--retries", "1", "--save", "out")
    assert run.code == 1
    lines = run.err.splitlines()[1:]
    assert [line.split(": ")[0] for line in lines] == ["Warning", "Error"]
    assert "cannot connect (Connection refused)" in lines[-1]
    (work / "cameras.txt").write_text(f"{address}\nvideo.mp4\n")
    run_2 = detect("cameras.txt", "--retries", "0", "--json")
    assert run_2.code == 1
    summary = json.loads(run_2.out)
    assert [(s["name"][:16], s["processed"]) for s in summary["streams"]] == [
        ("rtsp://127.0.0.1", 0),
        ("video.mp4", 20),
    ]
    assert "s3cret" not in run.out + run.err + run_2.out + run_2.err


def test_the_bundle_exported_last_is_taken(detect: _Detect, work: Path) -> None:
    for name, created in (("old", "2026-01-01T00:00:00Z"), ("new", "2026-01-02T00:00:00Z")):
        onnx = tiny_yolo(work / name / f"{name}.onnx")
        manifest_of(onnx, created=created).write(work / name / f"{name}.json")
        os.utime(work / name / f"{name}.json", (1, 1))
    run = detect("red.png", "--backend", "onnxruntime", model=None)
    assert run.code == 0, run.err
    assert "Model: new/new.json (exported last in this folder), in onnxruntime" in run.err.replace("\\", "/")


def test_a_bundle_whose_files_are_gone_is_passed_over(
    detect: _Detect, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(("old", "new")):
        onnx = tiny_yolo(work / name / f"{name}.onnx")
        manifest_of(onnx).write(work / name / f"{name}.json")
        os.utime(work / name / f"{name}.json", (number, number))
    (work / "new" / "new.onnx").unlink()
    run = detect("red.png", "--backend", "onnxruntime", model=None)
    assert run.code == 0, run.err
    told = run.err.replace("\\", "/")
    assert "Model: old/old.json (exported last in this folder; new/new.json misses new.onnx), in" in told
    (work / "old" / "old.onnx").unlink()
    shutil.copy(work / "tiny.onnx", work / "yolov8n_demo.onnx")
    monkeypatch.setattr("yolotrt.assets._PACKAGED", work)
    told = detect("red.png", "--backend", "onnxruntime", model=None).err.replace("\\", "/")
    assert "(the demo model; choose another with --model; new/new.json misses new.onnx), in" in told


def test_the_demo_model_is_taken_where_nothing_was_exported(
    detect: _Detect, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(work / "tiny.onnx", work / "yolov8n_demo.onnx")
    monkeypatch.setattr("yolotrt.assets._PACKAGED", work)
    run = detect("red.png", "--backend", "onnxruntime", model=None)
    assert run.code == 0, run.err
    assert "yolov8n_demo.onnx (the demo model; choose another with --model), in onnxruntime" in run.err


def test_one_bad_picture_among_several(detect: _Detect, work: Path) -> None:
    (work / "bad.png").write_bytes(b"")
    run = detect("red.png", "bad.png", "blue.png", "--save", "out")
    assert run.code == 1
    assert "Warning: bad.png: the picture is empty" in run.err
    assert "Not read in full: 1" in run.out
    assert sorted(p.name for p in (work / "out").iterdir()) == ["blue.png", "red.png"]


def test_video_cut_short(detect: _Detect, work: Path) -> None:
    cut(write_video(work / "cut.mp4", moving_box(100), muxer={"movflags": "faststart"}), 0.8)
    run = detect("cut.mp4", "--save", "out")
    assert run.code == 1
    assert "Warning: cut.mp4: the video is cut short" in run.err
    assert 10 < len(video_times(work / "out" / "cut.mp4")) < 100


# What a user gets wrong: the call, the exit code, and what the one line on standard error says.
_WRONG = [
    (["none.png"], 1, "none.png: no such file or folder"),
    (["none/*.png"], 1, "no picture or video matches"),
    (["empty.png"], 1, "zero bytes"),
    (["short.jpg"], 1, "cut short"),
    (["text.png"], 1, "not a picture"),
    (["text.dat"], 1, "neither a picture nor a video"),
    (["text.txt"], 1, "cannot be read"),
    (["text.mp4"], 1, "not a video"),
    (["folder"], 1, "holds no pictures or videos"),
    (["gopher://u:p@host/1"], 2, "gopher:// sources are not supported"),
    (["7"], 1, "webcam-7: there is no such webcam"),
    ([], 2, "SOURCE"),
    (["red.png", "--conf", "2"], 2, "option conf is out of range"),
    (["red.png", "--conf", "high"], 2, "--conf"),
    (["red.png", "--max-det", "0"], 2, "option max_det is out of range"),
    (["red.png", "--classes", "cat"], 2, "option classes names a class that the model does not have, got cat"),
    (["red.png", "--classes", "9"], 2, "got 9"),
    (["red.png", "--device", "tpu"], 2, "option device is unknown"),
    (["red.png", "--backend", "tflite"], 2, "option backend is unknown"),
    (["red.png", "--json", "--jsonl", "-"], 2, "both claim standard output"),
    (["red.png", "--jsonl", "/dev/fd/1", "--coco", "/dev/stdout"], 2, "--coco /dev/stdout both claim standard output"),
    (["red.png", "--json", "--coco", "/dev/fd/1"], 2, "--json and --coco /dev/fd/1 both claim standard output"),
    (["red.png", "--config", "bad.yaml"], 2, "unknown key 'confidence'"),
    (["red.png", "--config", "none.yaml"], 2, "cannot read the configuration"),
    (["red.png", "--save", "."], 2, "would replace"),
    (["red.png", "--save", "text.txt"], 1, "a file stands where a folder is needed"),
    (["red.png", "--jsonl", "folder"], 1, "a file stands where a folder is needed"),
    (["red.png", "--jsonl", "red.png"], 2, "is the source itself"),
    (["red.png", "--model", "none.onnx"], 1, "none.onnx: no such file"),
    (["red.png", "--model", "folder"], 1, "folder: not a bundle"),
    (["red.png", "--model", "text.txt"], 1, "not a kind of model file"),
    (["red.png", "--model", "nan.onnx"], 1, "NaN"),
    (["red.png", "--unknown"], 2, "--unknown"),
    (["red.png", "--stride", "0"], 2, "option stride is out of range"),
    (["red.png", "--fps", "0"], 2, "option fps is out of range"),
    (["red.png", "--retries", "-1"], 2, "option retries is out of range"),
    (["red.png", "--read-timeout", "0"], 2, "option read-timeout is out of range"),
    (["red.png", "--rtsp-transport", "pigeon"], 2, "option rtsp-transport is unknown"),
]


@pytest.fixture
def wrong(work: Path) -> Path:
    (work / "folder").mkdir()
    (work / "empty.png").write_bytes(b"")
    (work / "short.jpg").write_bytes(cv2.imencode(".jpg", picture())[1].tobytes()[:-40])
    for name in ("text.png", "text.dat", "text.txt", "text.mp4"):
        (work / name).write_text("only text " * 50)
    (work / "bad.yaml").write_text("confidence: 0.5\n")
    tiny_yolo(work / "nan.onnx", nan=True)
    return work


@pytest.mark.parametrize(("arguments", "code", "message"), _WRONG, ids=[" ".join(a) or "nothing" for a, _, _ in _WRONG])
def test_wrong_calls(wrong: Path, detect: _Detect, arguments: list[str], code: int, message: str) -> None:
    before = (wrong / "red.png").read_bytes()
    run = detect(*arguments, model=None if "--model" in arguments else "tiny.onnx")
    lines = [line for line in run.err.splitlines() if not line.startswith("Model: ")]
    assert (run.code, run.out) == (code, "")
    assert len(lines) == 1, run.err
    assert lines[0].startswith("Error: ")
    assert message in lines[0]
    assert (wrong / "red.png").read_bytes() == before


@pytest.mark.parametrize("arguments", [["short.jpg"], ["red.png", "--conf", "2"], ["text.mp4"]])
def test_wrong_calls_from_the_shell(wrong: Path, arguments: list[str]) -> None:
    run = _shell(*arguments, "--model", "tiny.onnx")
    expected = next((code, message) for a, code, message in _WRONG if a == arguments)
    assert run.code == expected[0]
    assert expected[1] in run.err
    assert "Traceback" not in run.err
    assert run.out == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_disk_full(detect: _Detect) -> None:
    run = detect("video.mp4", "--jsonl", "/dev/full")
    assert run.code == 1
    assert run.err.splitlines()[-1].startswith("Error: cannot write /dev/full: the disk is full")


def test_reader_of_the_lines_goes_away(work: Path) -> None:
    write_video(work / "long.mp4", moving_box(500), encoder={"preset": "ultrafast"})
    command = f"{shlex.quote(sys.executable)} -m yolotrt detect long.mp4 --model tiny.onnx --jsonl - | head -n 2"
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment)
    assert len(run.stdout.splitlines()) == 2
    assert "Traceback" not in run.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_leaves_playable_outputs(work: Path, number: signal.Signals) -> None:
    write_video(work / "long.mp4", moving_box(4000, (360, 640)), encoder={"preset": "ultrafast"})
    named = ["--model", "tiny.onnx"]
    process = subprocess.Popen(
        [sys.executable, "-m", "yolotrt", "detect", "long.mp4", *named, "--save", "out", "--jsonl", "out.jsonl"],
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (
        (work / "out.jsonl").exists() and (work / "out.jsonl").stat().st_size > 10_000
    ):
        time.sleep(0.02)
    process.send_signal(number)
    started = time.monotonic()
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - started < 2
    assert process.returncode == 130
    assert "Traceback" not in err
    assert err.rstrip().endswith("Interrupted.")
    assert "frames/s" in out
    frames = len(video_times(work / "out" / "long.mp4"))
    lines = [json.loads(line)["index"] for line in (work / "out.jsonl").read_text().splitlines()]
    assert 20 < frames < 4000
    assert lines == list(range(frames))
    assert [p.name for p in (work / "out").iterdir()] == ["long.mp4"]


_PEAK = """
import resource, sys
from yolotrt import cli
sys.argv = ["yolotrt", "detect", sys.argv[1], "--model", "tiny.onnx", "--save", "out", "--json"]
try:
    cli.main()
finally:
    sys.stderr.write(f"\\npeak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory in KiB")
def test_peak_memory_does_not_grow_with_the_video(work: Path) -> None:
    peaks = []
    for frames in (200, 2000):
        write_video(work / f"{frames}.mp4", moving_box(frames, (240, 320)), encoder={"preset": "ultrafast"})
        environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}
        run = subprocess.run(
            [sys.executable, "-c", _PEAK, f"{frames}.mp4"], capture_output=True, text=True, env=environment
        )
        assert json.loads(run.stdout)["frames"] == frames
        peaks.append(int(run.stderr.split()[-1]))
    assert peaks[1] - peaks[0] < 16 << 10


def test_standard_output_is_closed(work: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -m yolotrt detect red.png --model tiny.onnx --jsonl - >&-"
    run = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True, timeout=60)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1] == "Error: cannot write to standard output: it is closed"
    assert "Traceback" not in run.stderr


def test_a_source_without_a_name(detect: _Detect) -> None:
    run = detect("")
    assert (run.code, run.out) == (2, "")
    assert run.err.startswith("Error: a source without a name")

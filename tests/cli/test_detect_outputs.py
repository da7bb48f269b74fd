"""`yolotrt detect`: where results can go besides annotated copies and JSON lines."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import pytest

from tests.support.command_line import CommandLine, Outcome
from tests.support.manifests import manifest_of
from tests.support.media import moving_box, picture, video_times, write_video
from tests.support.screen import screen  # noqa: F401 (a fixture)
from tests.support.tiny_models import tiny_yolo
from yolotrt import cli

MODEL = ("--model", "tiny.onnx", "--backend", "onnxruntime")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a model, a picture and a video of a red box that moves to the right."""
    tiny_yolo(tmp_path / "tiny.onnx")
    cv2.imwrite(str(tmp_path / "red.png"), picture())
    write_video(tmp_path / "video.mp4", moving_box(80))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capfd)


def _detect(run: CommandLine, *arguments: str) -> Outcome:
    outcome = run("detect", *MODEL, *arguments)
    assert outcome.code == 0, outcome.err
    return outcome


COUNTING = """
counting:
  lines:
    gate: [[0.5, 1.0], [0.5, 0.0]]
  zones:
    right: [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]
"""


def test_tracks_and_counts(run: CommandLine, work: Path) -> None:
    pytest.importorskip("trackers")
    # The tiny model finds boxes in places 32 pixels apart: one red box that goes from place to place.
    ways = [picture((96, 128), box=(x, 16, x + 36, 56)) for x in (0, 30, 62, 92) for _ in range(2)]
    write_video(work / "video.mp4", ways)
    (work / "count.yaml").write_text(COUNTING)
    found = _detect(run, "video.mp4", "--config", "count.yaml", "--jsonl", "a.jsonl", "--save", "out", "--json")
    lines = [json.loads(line) for line in (work / "a.jsonl").read_text().splitlines()]
    assert [box["tracker_id"] for line in lines for box in line["boxes"]] == [None, *[1] * 7]
    counts = json.loads(found.out)["counts"]["video.mp4"]
    assert counts == lines[-1]["counts"]
    # The box goes to the right: seen from below, out of the left side; and into the zone there.
    assert counts["lines"]["gate"] == {"in": {}, "out": {"red": 1}}
    assert counts["zones"]["right"] == {"inside": {"red": 1}, "in": {"red": 1}, "out": {}}
    assert len(video_times(work / "out" / "video.mp4")) == 8
    again = _detect(run, "video.mp4", "--config", "count.yaml", "--jsonl", "b.jsonl")
    assert (work / "a.jsonl").read_bytes() == (work / "b.jsonl").read_bytes()
    assert re.search(r"video.mp4, line gate: in none; out 1 red", again.out)
    assert "video.mp4, zone right: in" in again.out


def test_tracks_alone(run: CommandLine, work: Path) -> None:
    pytest.importorskip("trackers")
    _detect(run, "video.mp4", "--track", "bytetrack", "--jsonl", "a.jsonl")
    last = json.loads((work / "a.jsonl").read_text().splitlines()[-1])
    assert last["boxes"][0]["tracker_id"] >= 1
    assert "counts" not in last


def test_coco_crops_and_lines(run: CommandLine, work: Path) -> None:
    for _ in range(2):
        _detect(run, "red.png", "--coco", "r.json", "--crops", "crops", "--jsonl", "a.jsonl", "--append")
    results = json.loads((work / "r.json").read_text())
    assert {r["image_id"] for r in results} == {1}
    assert len(list((work / "crops" / "red").iterdir())) == len(results)
    assert len((work / "a.jsonl").read_text().splitlines()) == 2
    written = _detect(run, "video.mp4", "--jsonl", "b.jsonl", "--jsonl-rotate", "2KB").out
    assert len(list(work.glob("b*.jsonl"))) > 2
    assert "files in" in written


@pytest.fixture
def running(work: Path) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """A run over a long video, with the addresses of its metrics and of its streams."""
    pytest.importorskip("prometheus_client")
    write_video(work / "long.mp4", moving_box(5000, (240, 320)), encoder={"preset": "ultrafast"})
    process = subprocess.Popen(
        [sys.executable, "-m", "yolotrt", "detect", "long.mp4", *MODEL, "--metrics", "0", "--restream", "http://:0"],
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    found = {}
    for line in process.stderr:
        name, _, url = line.strip().partition(": ")
        found[name] = url
        if {"Metrics", "Streams"} <= set(found):
            break
    yield process, found["Metrics"], found["Streams"]
    process.kill()
    process.communicate()


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        data: bytes = answer.read()
        return data


def test_metrics_and_pictures_of_a_run(running: tuple[subprocess.Popen[str], str, str]) -> None:
    process, metrics, streams = running
    processed: list[float] = []
    deadline = time.monotonic() + 30
    while len(set(processed)) < 3 and time.monotonic() < deadline:
        text = _get(metrics).decode()
        match = re.search(r'^yolotrt_frames_processed_total\{stream="long.mp4"\} (\S+)$', text, re.M)
        assert match is not None
        processed.append(float(match[1]))
        time.sleep(0.05)
    assert processed == sorted(processed)
    assert processed[-1] > 0
    assert 'yolotrt_stream_state{state="live",stream="long.mp4"} 1.0' in text
    assert _get(streams + "long.mp4.jpg").startswith(b"\xff\xd8")
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    _, err = process.communicate(timeout=20)
    assert time.monotonic() - started < 2
    assert process.returncode == 130
    assert "Traceback" not in err


_WRONG = [
    (["--split", "10"], 2, "option split is neither a time nor a size, got '10'"),
    (["--jsonl-rotate", "often", "--jsonl", "a"], 2, "option jsonl-rotate is neither"),
    (["--append"], 2, "the file of --jsonl, which is not given"),
    (["--jsonl-rotate", "1h"], 2, "the file of --jsonl, which is not given"),
    (["--split", "10m"], 2, "the videos of --save, which is not given"),
    (["--append", "--jsonl", "-"], 2, "--append and --jsonl-rotate need a file"),
    (["--encoder", "h265"], 2, "option encoder is unknown, got h265"),
    (["--coco-like", "a.json"], 2, "--coco-like takes the ids for --coco"),
    (["--coco", "a.json", "--coco-like", "none.json"], 2, "none.json: cannot read the annotations"),
    (["--coco", "red.png"], 2, "--coco red.png is the source itself"),
    (
        ["--coco", "o.json", "--jsonl", "./o.json"],
        2,
        "--jsonl ./o.json and --coco o.json are one file, expected a file",
    ),
    (["--coco", "o.json", "--jsonl", "o.images.json"], 2, "the pictures of --coco o.json, are one file"),
    (["--coco", "gate.json", "--config", "gate.yaml"], 2, "--jsonl gate.json and --coco gate.json are one file"),
    (["--coco", "."], 1, "cannot write .: a file stands where a folder is needed, or the reverse"),
    (["--coco", "tiny.onnx/a.json"], 1, "a file stands where a folder is needed"),
    (["--crops", "."], 2, ". holds the pictures and videos that the crops are cut from"),
    (["--crops", "tiny.onnx"], 1, "a file stands where a folder is needed"),
    (["--restream", "8080"], 2, "option restream is no address"),
    (["--restream", "http://me:secret@host:1"], 2, "option restream is no address"),
    (["--restream", "http://192.0.2.1:8080"], 1, "cannot serve pictures at 192.0.2.1:8080"),
    (["--metrics", "metrics"], 2, "option metrics is no port, got 'metrics'"),
    (["--metrics", "192.0.2.1:9100"], 1, "cannot serve metrics at 192.0.2.1:9100"),
    (["--track", "deepsort"], 2, "option track is unknown, got deepsort, expected bytetrack"),
    (["--config", "count.yaml"], 2, "count.yaml: counting: line 'gate' has 1 points"),
    (["--jsonl", "red.json"], 2, "holds something other than JSON lines"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), _WRONG, ids=[" ".join(a) for a, _, _ in _WRONG])
def test_wrong_calls(run: CommandLine, work: Path, arguments: list[str], code: int, message: str) -> None:
    pytest.importorskip("prometheus_client")
    (work / "count.yaml").write_text("counting: {lines: {gate: [[0, 0]]}}\n")
    (work / "red.json").write_text("[]\n")
    (work / "gate.yaml").write_text("streams: [{url: video.mp4, jsonl: gate.json}]\n")
    before = sorted(p.name for p in work.iterdir())
    outcome = run("detect", "red.png", *MODEL, *arguments, *(["--append"] if "red.json" in arguments else []))
    lines = [line for line in outcome.err.splitlines() if not line.startswith("Model: ")]
    assert (outcome.code, outcome.out) == (code, "")
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("Error: ")
    assert message in lines[0]
    assert "secret" not in lines[0]
    assert sorted(p.name for p in work.iterdir()) == before


def test_links_and_pipes_stay(run: CommandLine, work: Path) -> None:
    (work / "link.json").symlink_to("target.json")
    os.mkfifo(work / "pipe")
    _detect(run, "red.png", "--coco", "link.json")
    with ThreadPoolExecutor() as pool:
        read = pool.submit((work / "pipe").read_text)
        _detect(run, "red.png", "--coco", "pipe")
        piped = json.loads(read.result(10))
    assert piped == json.loads((work / "target.json").read_text())
    assert (work / "link.json").is_symlink()
    assert (work / "pipe").is_fifo()
    assert not (work / "pipe.images.json").exists()  # beside a device there is no place for it


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1"])
def test_results_on_standard_output(run: CommandLine, work: Path, name: str) -> None:
    lines, _, summary = _detect(run, "red.png", "--coco", name).out.partition("\n]\n")
    assert {row["image_id"] for row in json.loads(lines + "]")} == {1}
    assert f"Written: {name}" in summary


def test_lines_on_standard_output_by_its_name(run: CommandLine, work: Path) -> None:
    outcome = _detect(run, "red.png", "--jsonl", "/dev/stdout")
    (line,) = outcome.out.splitlines()
    assert json.loads(line)["source"] == "red.png"
    assert "inference" in outcome.err, "the summary"


def test_lines_of_one_stream_on_standard_output(run: CommandLine, work: Path) -> None:
    (work / "s.yaml").write_text("streams: [{url: red.png, jsonl: '-'}]\n")
    (line,) = _detect(run, "--config", "s.yaml").out.splitlines()
    assert json.loads(line)["source"] == "red.png"
    outcome = run("detect", *MODEL, "--config", "s.yaml", "--json")
    assert (outcome.code, outcome.out) == (2, "")
    assert "both claim standard output" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["red.png", "--jsonl", "old.jsonl", "--metrics", "192.0.2.1:9100"], 1),
        (["--config", "port.yaml", "--metrics", "192.0.2.1:9100"], 1),
        (["--config", "classes.yaml"], 2),
        (["bad.png", "--coco", "old.json"], 1),
    ],
)
def test_a_run_that_finds_nothing_leaves_older_results(
    run: CommandLine, work: Path, arguments: list[str], code: int
) -> None:
    pytest.importorskip("prometheus_client")
    (work / "bad.png").write_bytes(b"no picture")
    (work / "classes.yaml").write_text("streams: [{url: red.png, jsonl: old.jsonl, classes: [personn]}]\n")
    (work / "port.yaml").write_text("streams: [{url: red.png, jsonl: old.jsonl}]\n")
    for name in ("old.jsonl", "old.json", "old.images.json"):
        (work / name).write_text("{}\n")
    assert run("detect", *MODEL, *arguments).code == code
    for name in ("old.jsonl", "old.json", "old.images.json"):
        assert (work / name).read_text() == "{}\n", name


# A call, the file that would be lost, and what that file is to the run.
_OWN_INPUTS = [
    (["--model", "tiny.onnx", "--jsonl", "./tiny.onnx"], "tiny.onnx", "the model"),
    (["--model", "tiny.onnx", "--coco", "link.json"], "tiny.onnx", "the model"),
    (["--model", "bundle", "--coco", "bundle/m.json"], "bundle/m.json", "the model"),
    (["--model", "bundle/m.json", "--jsonl", "bundle/m.onnx"], "bundle/m.onnx", "the model"),
    (["--model", "bundle/m.engine", "--coco", "bundle/m.json"], "bundle/m.json", "the model"),
    (["list.txt", "--jsonl", "list.txt"], "list.txt", "the list of sources"),
    (["--config", "c.yaml", "--jsonl", "c.yaml"], "c.yaml", "the file of --config"),
    (["--config", "lines.yaml"], "list.txt", "the list of sources"),
    (["--coco", "gt.json", "--coco-like", "gt.json"], "gt.json", "the file of --coco-like"),
    (["--coco", "gt.json", "--coco-like", "gt.images.json"], "gt.images.json", "the file of --coco-like"),
]


@pytest.mark.parametrize(("arguments", "lost", "what"), _OWN_INPUTS, ids=[" ".join(a) for a, _, _ in _OWN_INPUTS])
def test_no_output_takes_the_place_of_what_the_run_reads(
    run: CommandLine, work: Path, arguments: list[str], lost: str, what: str
) -> None:
    onnx = tiny_yolo(work / "bundle" / "m.onnx")
    manifest_of(onnx).write(onnx.with_suffix(".json"))
    onnx.with_suffix(".engine").write_bytes(b"no plan, which nobody has to find out")
    (work / "link.json").symlink_to("tiny.onnx")
    (work / "list.txt").write_text("red.png\n")
    (work / "c.yaml").write_text("conf: 0.5\n")
    (work / "lines.yaml").write_text("streams: [{url: list.txt, jsonl: list.txt}]\n")
    for name in ("gt.json", "gt.images.json"):
        (work / name).write_text('{"images": [{"id": 1, "file_name": "red.png"}], "categories": []}')
    before = {path: path.read_bytes() for path in work.rglob("*") if path.is_file()}
    model = [] if "--model" in arguments else MODEL
    outcome = run("detect", "red.png", *model, *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()  # nothing was loaded
    assert f"{what} itself" in line
    assert (work / lost) in before
    assert {path: path.read_bytes() for path in work.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("kind", ["save", "crops"])
def test_no_stream_writes_where_another_one_reads(run: CommandLine, work: Path, kind: str) -> None:
    (work / "other").mkdir()
    cv2.imwrite(str(work / "other" / "red.png"), picture())
    before = (work / "other" / "red.png").read_bytes()
    (work / "streams.yaml").write_text(f"streams: [{{url: red.png, {kind}: other, jsonl: a}}, other]\n")
    outcome = run("detect", *MODEL, "--config", "streams.yaml")
    assert (outcome.code, outcome.out) == (2, "")
    assert "the pictures and videos" in outcome.err
    assert (work / "other" / "red.png").read_bytes() == before
    assert not (work / "a").exists()


def test_the_model_that_nobody_named_is_no_place_for_an_output(run: CommandLine, work: Path) -> None:
    onnx = tiny_yolo(work / "bundle" / "m.onnx")
    manifest_of(onnx).write(onnx.with_suffix(".json"))
    before = onnx.read_bytes()
    outcome = run("detect", "red.png", "--jsonl", "bundle/m.onnx")
    assert outcome.code == 2
    assert "--jsonl bundle/m.onnx is the model itself" in outcome.err
    assert onnx.read_bytes() == before


@pytest.mark.skipif(sys.platform != "linux", reason="screens are found by DISPLAY there")
def test_show_without_a_screen(run: CommandLine, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    outcome = run("detect", "red.png", *MODEL, "--show")
    assert outcome.code == 1
    assert outcome.err.splitlines()[-1].startswith("Error: no window can be opened: there is no screen")


@pytest.mark.skipif(sys.platform != "linux", reason="finds the child in /proc")
def test_closing_the_window_ends_the_run(work: Path, screen: str) -> None:  # noqa: F811
    write_video(work / "long.mp4", moving_box(5000, (240, 320)), encoder={"preset": "ultrafast"})
    process = subprocess.Popen(
        [sys.executable, "-m", "yolotrt", "detect", "long.mp4", *MODEL, "--show", "--save", "out", "--json"],
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not list((work / "out").glob(".long*.mp4")):
        time.sleep(0.05)  # the first frame is through
    os.kill(int(children.read_text().split()[0]), signal.SIGTERM)  # as if its user had closed it
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert 0 < json.loads(out)["frames"] == len(video_times(work / "out" / "long.mp4")) < 5000

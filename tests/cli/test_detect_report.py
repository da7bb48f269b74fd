from __future__ import annotations

import io
from pathlib import Path

import cv2
import pytest
from rich.console import Console

from tests.support.media import moving_box, picture, write_video
from tests.support.results import frame_result
from yolotrt.cli.detect_report import display, expected_frames, print_summary, stream_table
from yolotrt.errors import SourceError
from yolotrt.pipeline import RunStatistics, Stream, StreamState, StreamStatus
from yolotrt.pipeline.batcher import Batcher, Inlet
from yolotrt.pipeline.reader import StreamReader
from yolotrt.pipeline.stream import StreamOptions
from yolotrt.pipeline.stream_state import StreamRecord
from yolotrt.sources import ArraysSource, NetworkSource, open_source


@pytest.fixture
def statistics() -> RunStatistics:
    statistics = RunStatistics(wall_s=0.5, problems=["a.png: empty"])
    for boxes in (1, 2):
        statistics.add(frame_result(picture(), boxes=boxes))
    return statistics


@pytest.mark.parametrize("to_stderr", [False, True])
def test_summary(statistics: RunStatistics, capsys: pytest.CaptureFixture[str], to_stderr: bool) -> None:
    print_summary(statistics, [Path("out/[bold]a.png")], to_stderr=to_stderr)
    captured = capsys.readouterr()
    text, other = (captured.err, captured.out) if to_stderr else (captured.out, captured.err)
    assert other == ""
    rows = {line.rsplit(maxsplit=1)[0].strip(): line.split()[-1] for line in text.splitlines() if line.strip()}
    assert (rows["frames"], rows["boxes"], rows["frames/s"]) == ("2", "3", "4.0")
    assert "inference     3.00 ms/frame" in text
    assert "Found: 3 thing" in text
    assert "Written: out/[bold]a.png" in text
    assert "Not read in full: 1" in text


def test_many_outputs_are_counted(statistics: RunStatistics, capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(statistics, [Path(f"out/{i}.png") for i in range(1200)], to_stderr=False)
    assert "Written: 1,200 files in out" in capsys.readouterr().out


def test_folders_of_crops_are_no_files(
    statistics: RunStatistics, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folders = [tmp_path / place / name for place in ("gate", "yard") for name in ("car", "dog")]
    for folder in folders:
        folder.mkdir(parents=True)
    print_summary(statistics, [*folders, Path("a.json")], to_stderr=False)
    places = f"{tmp_path / 'gate'}, {tmp_path / 'yard'}"
    assert f"Written: a.json\nWritten: crops of 2 classes in {places}\n" in capsys.readouterr().out


def test_warnings_are_one_line_and_the_bar_stays_away_from_pipes(capsys: pytest.CaptureFixture[str]) -> None:
    name = "x" * 150
    with display([Stream(ArraysSource([picture(), picture()]))]) as shown:
        shown.on_result(frame_result(picture()))
        shown.on_problem(SourceError(f"{name}/[red].png: not a picture"))
    captured = capsys.readouterr()
    assert captured.err == f"Warning: {name}/[red].png: not a picture\n"
    assert captured.out == ""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (StreamOptions(), 52),
        (StreamOptions(stride=3), 19),
        (StreamOptions(fps=5), 12),
        (StreamOptions(fps=60), 52),
        (StreamOptions(fps=5, stride=25), 4),
    ],
)
def test_the_bar_knows_what_is_left_out(tmp_path: Path, options: StreamOptions, expected: int) -> None:
    write_video(tmp_path / "v.mp4", moving_box(50))
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), picture())
    source = open_source(tmp_path)
    assert expected_frames(source, options) == expected
    inlet = Inlet(StreamRecord("a"), live=False)
    reader = StreamReader(source, inlet, Batcher([inlet], 1), stride=options.stride, fps=options.fps)
    assert sum(1 for _ in reader.source) == expected


def test_changes_of_cameras_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    gate = Stream(NetworkSource("rtsp://me:secret@127.0.0.1/1"), name="[gate]")
    with display([gate]) as shown:
        shown.follow(lambda: [StreamStatus(name="[gate]", state=StreamState.LIVE)])
        shown.on_state(StreamStatus(name="[gate]", state=StreamState.CONNECTING), "[gate]: cannot connect")
        shown.on_state(StreamStatus(name="[gate]", state=StreamState.LIVE), "")
        shown.on_state(StreamStatus(name="[gate]", state=StreamState.ENDED), "")
        shown.on_result(frame_result(picture()))
    assert capsys.readouterr().err == "Warning: [gate]: cannot connect\n[gate]: live\n"


def test_summary_of_several_streams(statistics: RunStatistics, capsys: pytest.CaptureFixture[str]) -> None:
    streams = [
        StreamStatus(
            name="[gate]", state=StreamState.ENDED, read=1200, processed=1000, dropped=200, latency_p95_s=0.25
        ),
        StreamStatus(name="a.mp4", state=StreamState.ENDED, read=7, processed=3, skipped=4, corrupt=2),
        StreamStatus(name="locked", state=StreamState.ENDED, last_error="locked: it wants a password"),
    ]
    print_summary(statistics, [], streams, to_stderr=False)
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert rows["[gate]"] == ["ended", "1,200", "1,000", "200", "0", "0", "250", "ms"]
    assert rows["a.mp4"] == ["ended", "7", "3", "0", "4", "2"]
    assert rows["locked"] == ["ended,", "nothing", "read", "0", "0", "0", "0", "0"]


def test_the_table_fits_a_narrow_terminal() -> None:
    name = "rtsp://192.0.2.10:554/Streaming/Channels/101"
    full = StreamStatus(
        name=name,
        state=StreamState.RECONNECTING,
        read=12345,
        processed=12000,
        dropped=345,
        reconnects=12,
        skipped=3,
        latency_p95_s=0.1,
    )
    console = Console(width=80, file=io.StringIO())
    console.print(stream_table([full], running=True))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert all(word in text for word in ("reconnecting", "processed", "12,345", "12,000", "345", "100 ms"))
    folded = (line[: line.find("reconnecting")] if "reconnecting" in line else line for line in text.splitlines()[2:])
    assert "".join(part.strip() for part in folded) == name


def test_what_decoded(statistics: RunStatistics, capsys: pytest.CaptureFixture[str]) -> None:
    several = ["nvdec", "pyav (the pictures are interlaced)", "nvdec"]
    print_summary(statistics, [], decoders=several, to_stderr=False)
    assert "Decoded by: 2 x nvdec, pyav (the pictures are interlaced)\n" in capsys.readouterr().out
    print_summary(statistics, [], decoders=["pyav", "pyav"], to_stderr=False)
    assert "Decoded by" not in capsys.readouterr().out, "nobody would expect anything else"

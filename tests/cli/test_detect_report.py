from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.media import picture
from tests.support.results import frame_result
from yolotrt.cli.detect_report import print_summary, progress
from yolotrt.errors import SourceError
from yolotrt.pipeline import RunStatistics
from yolotrt.sources import SourceInfo


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


def test_warnings_are_one_line_and_the_bar_stays_away_from_pipes(capsys: pytest.CaptureFixture[str]) -> None:
    name = "x" * 150
    with progress(SourceInfo(kind="several", name="2 sources", frames=2)) as (on_result, on_problem):
        on_result(frame_result(picture()))
        on_problem(SourceError(f"{name}/[red].png: not a picture"))
    captured = capsys.readouterr()
    assert captured.err == f"Warning: {name}/[red].png: not a picture\n"
    assert captured.out == ""

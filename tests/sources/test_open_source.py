from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import pytest

from tests.support.media import moving_box, picture, write_video
from yolotrt.errors import SourceError, UsageError
from yolotrt.sources import SourceSpec, open_source, open_sources


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """A folder with pictures, a video, and things that are neither."""
    folder = tmp_path / "media"
    (folder / "deeper").mkdir(parents=True)
    data = cv2.imencode(".png", picture())[1].tobytes()
    for name in ("frame10.png", "frame2.png", "Frame1.PNG", ".hidden.png", "deeper/frame3.png"):
        (folder / name).write_bytes(data)
    (folder / "notes.txt").write_text("not a picture")
    write_video(folder / "frame5.mp4", moving_box(3))
    return folder


def _ids(spec: SourceSpec, folder: Path) -> list[str]:
    seen: dict[str, None] = {}
    with open_source(spec) as source:
        for frame in source:
            seen[Path(frame.source_id).relative_to(folder).as_posix()] = None
    return list(seen)


def test_folder_in_natural_order(media: Path) -> None:
    assert _ids(media, media) == ["Frame1.PNG", "frame2.png", "frame5.mp4", "frame10.png"]
    source = open_source(str(media))
    assert source.info.kind == "several"
    assert source.info.frames == 6
    assert len(source.paths) == 4
    assert source.info_of(str(media / "frame5.mp4")).kind == "video"
    assert source.info_of(str(media / "frame2.png")).kind == "pictures"


def test_globs(media: Path) -> None:
    assert _ids(str(media / "*.png"), media) == ["frame2.png", "frame10.png"]
    assert _ids(str(media / "**" / "*.png"), media) == ["deeper/frame3.png", "frame2.png", "frame10.png"]
    assert _ids(str(media / "frame[25].*"), media) == ["frame2.png", "frame5.mp4"]


def test_a_name_with_glob_characters_is_itself(tmp_path: Path) -> None:
    path = tmp_path / "a[1].png"
    path.write_bytes(cv2.imencode(".png", picture())[1].tobytes())
    assert [f.source_id for f in open_source(str(path))] == [str(path)]


def test_several_in_the_order_given(media: Path) -> None:
    named = [media / "frame10.png", media / "frame5.mp4", media / "frame2.png"]
    assert _ids(named, media) == ["frame10.png", "frame5.mp4", "frame2.png"]


@pytest.mark.parametrize("name", ["picture", "picture.dat"])
def test_content_decides_where_the_name_says_nothing(media: Path, tmp_path: Path, name: str) -> None:
    shutil.copy(media / "frame2.png", tmp_path / name)
    assert open_source(tmp_path / name).info.kind == "pictures"
    shutil.copy(media / "frame5.mp4", tmp_path / name)
    assert open_source(tmp_path / name).info.kind == "video"
    (tmp_path / name).write_text("text")
    with pytest.raises(SourceError, match="neither a picture nor a video"):
        open_source(tmp_path / name)


def test_bad_files_among_several_are_problems(media: Path) -> None:
    (media / "frame3.mp4").write_bytes(b"nothing")
    (media / "frame4.png").write_bytes(b"")
    problems: list[SourceError] = []
    with open_source(media) as source:
        source.on_problem = problems.append
        ids = {frame.source_id for frame in source}
    assert len(ids) == 4
    assert [Path(str(p).split(":")[0]).name for p in problems] == ["frame3.mp4", "frame4.png"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("none.jpg", "none.jpg: no such file or folder"),
        ("none/*.jpg", "no picture or video matches"),
        ("empty", "the folder holds no pictures or videos"),
    ],
)
def test_nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=message):
        open_source(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gopher://user:secret@camera/1", "gopher:// sources are not supported"),
        ("file:///etc/passwd", "file:// sources are not supported"),
        (["rtsp://user:secret@camera/1", "rtsp://camera/2"], "2 sources, of which some are live"),
        ([], "no source"),
    ],
)
def test_refused_by_name(spec: SourceSpec, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        open_source(spec)
    assert "secret" not in str(caught.value)


def test_live_sources_stand_for_themselves(media: Path) -> None:
    named: list[str | int] = [
        "rtsp://me:secret@camera/1",
        str(media / "frame2.png"),
        str(media),
        "rtsp://you:other@camera/1",
        0,
        "/dev/video3",
    ]
    sources = open_sources(named)
    assert [s.info.kind for s in sources] == ["stream", "pictures", "several", "stream", "webcam", "webcam"]
    assert [s.info.name for s in sources if s.info.live] == [
        "rtsp://camera/1",
        "rtsp://camera/1-2",
        "webcam-0",
        "webcam-3",
    ]
    assert len(open_sources([media / "frame2.png", media / "frame5.mp4"])) == 1


def test_a_file_whose_name_is_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "0").write_bytes(cv2.imencode(".png", picture())[1].tobytes())
    assert open_source("0").info.kind == "pictures"
    assert open_source("1").info.kind == "webcam"


def test_image_sequences(media: Path) -> None:
    assert _ids(str(media / "frame%d.png"), media) == ["frame2.png", "frame10.png"]
    with pytest.raises(SourceError, match="no picture or video has such a name"):
        open_source(str(media / "shot%04d.png"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "# cameras\nrtsp://me:${CAMERA_PASSWORD}@camera/1\n\nframe2.png\n7\n"),
        ("list.yaml", "- rtsp://me:${CAMERA_PASSWORD}@camera/1\n- frame2.png\n- 7\n"),
    ],
)
def test_lists(media: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv("CAMERA_PASSWORD", "secret")
    (media / name).write_text(text)
    names = [s.info.name for s in open_sources(media / name)]
    assert names == ["rtsp://camera/1", str(media / "frame2.png"), "webcam-7"]


def test_comments_in_a_list(media: Path) -> None:
    lines = "\ufeff  # all of them\nrtsp://camera/1#low \t# gate\nframe2.png # one # two\n#7\n8#9.png\n"
    (media / "8#9.png").write_bytes((media / "frame2.png").read_bytes())
    (media / "list.txt").write_text(lines, encoding="utf-8")
    names = [s.info.name for s in open_sources(media / "list.txt")]
    assert names == ["rtsp://camera/1#low", str(media / "frame2.png"), str(media / "8#9.png")]


@pytest.mark.parametrize("name", ["list.txt", "list.yaml"])
def test_a_list_from_windows(media: Path, name: str) -> None:
    entry = "frame2.png" if name.endswith(".txt") else "- frame2.png"
    (media / name).write_bytes(f"\ufeff{entry}\r\n".encode())
    assert open_source(media / name).info.name == str(media / "frame2.png")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("list.txt", "frame2.png\n${EMPTY}\n", "entry 2 is empty"),
        ("list.yaml", "- ''\n", "entry 1 is empty"),
        ("list.txt", "# nothing\n", "the list names no source"),
        ("list.txt", "rtsp://me:${NOT_SET_ANYWHERE}@camera/1", "the environment variable NOT_SET_ANYWHERE is not set"),
        ("list.yaml", "streams: [{url: 'rtsp://me:secret@camera'}]", "not a list of sources"),
        ("list.yaml", "- 'rtsp://me:secret@camera\n", "not a list of sources"),
        ("list.txt", "absent.png", "absent.png: no such file or folder"),
    ],
)
def test_bad_lists(media: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, message: str) -> None:
    monkeypatch.setenv("EMPTY", "")
    (media / name).write_text(text)
    with pytest.raises((SourceError, UsageError), match=message) as caught:
        open_source(media / name)
    assert "secret" not in str(caught.value)


def test_arrays_and_paths_do_not_mix(media: Path) -> None:
    with pytest.raises(UsageError, match="mixed"):
        open_source([picture(), media / "frame2.png"])  # type: ignore[arg-type]

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.support.media import cut, picture
from yolotrt.errors import SourceError, UsageError
from yolotrt.sources import ArraysSource, ImagesSource, open_source, read_image
from yolotrt.types import ImageU8


@pytest.fixture
def photo() -> ImageU8:
    """Smooth enough that JPEG keeps it, without symmetry."""
    y, x = np.mgrid[0:60, 0:90]
    return np.stack([x * 2, y * 4, 255 - x - y], axis=-1).astype(np.uint8)


def _save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def _pil(photo: ImageU8) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(photo[..., ::-1]))


def _pil_bgr(path: Path) -> ImageU8:
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))[..., ::-1]


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".JPG", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"])
def test_each_format(tmp_path: Path, photo: ImageU8, suffix: str) -> None:
    path = tmp_path / f"photo{suffix}"
    path.write_bytes(cv2.imencode(suffix.lower(), photo)[1].tobytes())
    pixels = read_image(path)
    assert pixels.dtype == np.uint8
    assert pixels.shape == photo.shape
    assert pixels.flags.c_contiguous
    assert np.abs(pixels.astype(int) - photo).mean() < 2.5


def test_unicode_name(tmp_path: Path, photo: ImageU8) -> None:
    path = _save(tmp_path / "größe 猫 🚲.png", _pil(photo))
    assert (read_image(path) == photo).all()


def test_cmyk_jpeg_matches_pillow(tmp_path: Path, photo: ImageU8) -> None:
    path = _save(tmp_path / "cmyk.jpg", _pil(photo).convert("CMYK"), quality=95)
    assert np.abs(read_image(path).astype(int) - _pil_bgr(path)).max() <= 2


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits_keep_the_upper_eight(tmp_path: Path, suffix: str) -> None:
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    path = tmp_path / f"deep{suffix}"
    path.write_bytes(cv2.imencode(suffix, np.dstack([deep, deep.T, deep]))[1].tobytes())
    pixels = read_image(path)
    assert (pixels[..., 0] == deep >> 8).all()
    assert (pixels[..., 1] == deep.T >> 8).all()


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "I;16"])
def test_grey_and_palette(tmp_path: Path, photo: ImageU8, mode: str) -> None:
    grey = _pil(photo).convert("L")
    image = Image.fromarray(np.asarray(grey).astype(np.uint16) << 8) if mode == "I;16" else grey.convert(mode)
    path = _save(tmp_path / "grey.png", image)
    pixels = read_image(path)
    assert pixels.shape == photo.shape
    assert (pixels[..., 0] == pixels[..., 1]).all()
    assert (pixels[..., 0] == pixels[..., 2]).all()
    if mode != "1":
        assert (pixels[..., 0] == np.asarray(grey)).all()


def test_alpha_is_dropped(tmp_path: Path, photo: ImageU8) -> None:
    image = _pil(photo)
    image.putalpha(7)
    assert (read_image(_save(tmp_path / "alpha.png", image)) == photo).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, photo: ImageU8, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = _save(tmp_path / "turned.jpg", _pil(photo), exif=exif, quality=95)
    expected = _pil_bgr(path)
    pixels = read_image(path)
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("share", [0.02, 0.3, 0.95, 0.999])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tiff"])
def test_truncated(tmp_path: Path, suffix: str, share: float, capfd: pytest.CaptureFixture[str]) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(cv2.imencode(suffix, noise)[1].tobytes())
    read_image(path)
    with pytest.raises(SourceError, match=r"cut short|damaged"):
        read_image(cut(path, share))
    assert "ERROR" not in capfd.readouterr().err  # OpenCV keeps its log lines to itself


def test_truncated_progressive_jpeg_with_a_thumbnail(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)
    thumbnail = io.BytesIO()
    Image.fromarray(noise[:40, :60]).save(thumbnail, "JPEG")
    exif = Image.Exif()
    exif[0x9286] = thumbnail.getvalue()  # any tag does: it brings an end marker before the real one
    path = _save(tmp_path / "cut.jpg", Image.fromarray(noise), progressive=True, exif=exif)
    read_image(path)
    with pytest.raises(SourceError, match="cut short"):
        read_image(cut(path, 0.9))


def test_bytes_behind_the_end_do_no_harm(tmp_path: Path, photo: ImageU8) -> None:
    for suffix in (".jpg", ".png"):
        path = tmp_path / f"more{suffix}"
        path.write_bytes(cv2.imencode(suffix, photo)[1].tobytes() + b"trailing")
        assert read_image(path).shape == photo.shape


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "zero bytes"), (b"hello, no picture at all", "not a picture"), (b"\xff\xd8", "cut short")],
)
def test_no_picture(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=message) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(SourceError, match="cannot read"):
        read_image(tmp_path)


def test_float_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "float.tiff"
    path.write_bytes(cv2.imencode(".tiff", np.ones((8, 8, 3), np.float32))[1].tobytes())
    with pytest.raises(SourceError, match="sample type, got float32"):
        read_image(path)


def test_one_bad_picture_among_several_is_a_problem(tmp_path: Path, photo: ImageU8) -> None:
    good = [_save(tmp_path / f"{i}.png", _pil(photo)) for i in range(2)]
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    source = ImagesSource([good[0], bad, good[1]])
    problems: list[SourceError] = []
    source.on_problem = problems.append
    frames = list(source)
    assert [f.source_id for f in frames] == [str(p) for p in good]
    assert all(f.index == 0 and f.timestamp_s == 0 and f.decode_s > 0 for f in frames)
    assert len(problems) == 1
    assert str(bad) in str(problems[0])
    with pytest.raises(SourceError):
        list(ImagesSource([bad]))


@pytest.mark.parametrize("cores", [1, 2, 4, 64])
def test_pictures_come_in_order_however_many_threads_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    # The first ones take longest.
    sizes = [900, 800, 700, 4, 600, 5, 6, 500, 7, 8, 9, 400, 300]
    paths = [_save(tmp_path / f"{i}.png", Image.new("RGB", (side, side))) for i, side in enumerate(sizes)]
    paths[4].write_bytes(b"")
    source, problems = ImagesSource(paths), list[SourceError]()
    source.on_problem = problems.append
    assert [frame.size[0] for frame in source] == [*sizes[:4], *sizes[5:]]
    assert [str(paths[4]) in str(problem) for problem in problems] == [True]
    assert _readers() == 0


def test_threads_end_with_the_iteration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photo: ImageU8) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    path = _save(tmp_path / "a.png", _pil(photo))
    frames = iter(ImagesSource([path] * 50))
    next(frames)
    assert _readers() > 1
    frames.close()  # type: ignore[attr-defined]
    assert _readers() == 0


def _readers() -> int:
    return sum(thread.name.startswith("yolotrt-pictures") for thread in threading.enumerate())


def test_opencv_is_as_loud_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    before = cv2.utils.logging.getLogLevel()
    for _ in range(20):
        source = ImagesSource([bad] * 20)
        source.on_problem = lambda _: None
        assert list(source) == []
    assert cv2.utils.logging.getLogLevel() == before


def test_problems_are_logged_by_default(tmp_path: Path, photo: ImageU8, caplog: pytest.LogCaptureFixture) -> None:
    good = _save(tmp_path / "a.png", _pil(photo))
    (tmp_path / "b.png").write_bytes(b"")
    assert len(list(ImagesSource([good, tmp_path / "b.png"]))) == 1
    assert "b.png" in caplog.text


def test_arrays() -> None:
    first, second = picture(), picture(box=None)
    assert [f.source_id for f in open_source(first)] == ["array-0"]
    frames = list(open_source([first, second[:, ::-1]]))
    assert [f.source_id for f in frames] == ["array-0", "array-1"]
    assert frames[1].pixels.flags.c_contiguous


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_arrays_of_the_wrong_kind(array: ImageU8) -> None:
    with pytest.raises(UsageError, match="not a picture"):
        ArraysSource([array])

"""The GPU's letterbox kernel, run as host code, against the CPU's letterbox and against swscale."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.cuda_host.machine import HostMachine
from tests.support.specs import make_spec
from yolotrt.errors import SourceError
from yolotrt.model_spec import LetterboxRule, ModelSpec
from yolotrt.preprocess.geometry import LetterboxGeometry
from yolotrt.preprocess.letterbox_cpu import geometry_for, letterbox
from yolotrt.preprocess.letterbox_cuda import (
    ALL_ROWS,
    PAIRS_OF_ROWS,
    PICTURE,
    SINGLE_ROWS,
    LetterboxKernel,
    Rows,
    describe_host,
    describe_surface,
)
from yolotrt.preprocess.surface import Matrix, Surface
from yolotrt.types import ImageU8


def launch(spec: ModelSpec, table: npt.NDArray[Any], size: tuple[int, int], *, order: int = 0) -> Any:
    """The model's input as the kernel makes it. What it does not write stays 7."""
    machine = HostMachine(order=order)
    out = np.full((len(table), 3, *size), 7, spec.input.dtype)
    LetterboxKernel(machine, spec.input.dtype).launch(
        machine.queue(), pictures=table.ctypes.data, output=out.ctypes.data, shape=(len(table), 3, *size)
    )
    return out


def on_gpu(images: list[ImageU8], spec: ModelSpec, *, order: int = 0) -> Any:
    geometries = [geometry_for(image, spec) for image in images]
    table = np.zeros(len(images), PICTURE)
    packed = []  # keeps what the table points to
    for i, (image, geometry) in enumerate(zip(images, geometries, strict=True)):
        rows = Rows.of(geometry.source_size[0], geometry.resized_size[0])
        packed.append(np.ascontiguousarray(image if rows.index is None else image[rows.index]))
        table[i] = describe_host(packed[-1].ctypes.data, rows, geometry, spec.letterbox.pad_value)
    return launch(spec, table, geometries[0].input_size, order=order)


def noise(h: int, w: int, seed: int = 0) -> ImageU8:
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), np.uint8)


@settings(deadline=None, max_examples=150)
@given(
    st.integers(1, 500),
    st.integers(1, 500),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["float32", "float16"]),
    st.builds(
        LetterboxRule,
        resize=st.sampled_from(["fit", "stretch"]),
        center=st.booleans(),
        scale_up=st.booleans(),
        pad_value=st.integers(0, 255),
    ),
    st.integers(0, 5),
)
def test_equals_the_cpu(h: int, w: int, seed: int, dtype: str, rule: LetterboxRule, order: int) -> None:
    """To the last bit, where OpenCV's vector code rounds as its plain code; else nearly all, by one step at most."""
    spec = make_spec(imgsz=(96, 160), dtype=dtype, letterbox=rule)
    image = noise(h, w, seed)
    got, wanted = on_gpu([image], spec, order=order), letterbox([image], spec).images
    assert (got == wanted).mean() >= 0.999
    np.testing.assert_allclose(got.astype(np.float64), wanted, rtol=0, atol=1.01 / 255)


@pytest.mark.parametrize(
    ("h", "w", "mode"),
    [
        (1080, 1920, SINGLE_ROWS),  # by 3
        (2160, 3840, PAIRS_OF_ROWS),  # by 6
        (720, 1280, ALL_ROWS),  # by 2: the mean of four pixels
        (640, 640, ALL_ROWS),
        (500, 1300, PAIRS_OF_ROWS),
    ],
)
def test_common_sizes(h: int, w: int, mode: int) -> None:
    spec = make_spec(imgsz=(640, 640), dtype="float16")
    geometry = LetterboxGeometry.compute((h, w), (640, 640), rule=spec.letterbox)
    assert Rows.of(h, geometry.resized_size[0]).mode == mode
    image = noise(h, w)
    np.testing.assert_array_equal(on_gpu([image], spec), letterbox([image], spec).images)


def test_a_batch_of_different_pictures_in_one_launch() -> None:
    spec = make_spec(imgsz=(64, 96))
    images = [noise(h, w) for h, w in ((10, 200), (64, 96), (333, 33), (128, 192))]
    np.testing.assert_array_equal(on_gpu(images, spec), letterbox(images, spec).images)


def test_padding_of_the_batch_is_left_alone() -> None:
    spec = make_spec(imgsz=(64, 64))
    image = noise(30, 40)
    table = np.zeros(2, PICTURE)
    geometry = geometry_for(image, spec)
    table[1] = describe_host(image.ctypes.data, Rows(ALL_ROWS), geometry, 114)
    got = launch(spec, table, (64, 64))
    assert (got[0] == 7).all()
    np.testing.assert_array_equal(got[1], letterbox([image], spec).images[0])


@given(st.integers(1, 3000), st.integers(1, 1000))
def test_rows_are_those_that_a_resize_reads(source: int, resized: int) -> None:
    rows = Rows.of(source, resized)
    if rows.index is None:
        return
    assert len(rows.index) < source
    assert len(rows.index) == resized * (1 if rows.mode == SINGLE_ROWS else 2)
    assert rows.index.min() >= 0
    assert rows.index.max() < source
    if rows.blocks is not None:
        b = rows.blocks
        together = [b.first + b.step * i + k for i in range(b.count) for k in range(b.rows)]
        assert rows.index.tolist() == together


@pytest.mark.parametrize(
    ("source", "resized", "blocks"),
    [(1080, 360, (1, 1, 3, 360)), (2160, 360, (2, 2, 6, 360)), (1440, 360, (1, 2, 4, 360)), (1000, 360, None)],
)
def test_rows_at_equal_distances(source: int, resized: int, blocks: tuple[int, ...] | None) -> None:
    found = Rows.of(source, resized).blocks
    assert (found and (found.first, found.rows, found.step, found.count)) == blocks


def test_surfaces_with_a_pitch() -> None:
    spec = make_spec(imgsz=(64, 96))
    image = noise(70, 51)
    padded = np.zeros((70, 256), np.uint8)
    for order, form in ((slice(None), "bgr"), (slice(None, None, -1), "rgb")):
        padded[:, :153] = image[:, :, order].reshape(70, 153)
        surface = Surface(address=padded.ctypes.data, size=(70, 51), pitch=256, format=form)  # type: ignore[arg-type]
        table = np.array([describe_surface(surface, geometry_for(image, spec), 114)], PICTURE)
        np.testing.assert_array_equal(launch(spec, table, (64, 96)), letterbox([image], spec).images)


def nv12(h: int, w: int, seed: int, pitch: int) -> npt.NDArray[np.uint8]:
    memory = np.zeros((h * 3 // 2, pitch), np.uint8)
    memory[:, :w] = np.random.default_rng(seed).integers(0, 256, (h * 3 // 2, w), np.uint8)
    return memory


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", ["bt601", "bt709", "fcc", "smpte240m"])
@pytest.mark.parametrize("size", [(64, 96), (360, 640), (200, 74)])
def test_nv12_as_swscale_decodes_a_video(size: tuple[int, int], matrix: Matrix, full_range: bool) -> None:
    av = pytest.importorskip("av")
    from av.video.reformatter import ColorRange, Colorspace

    (h, w), spec = size, make_spec(imgsz=(64, 96))
    memory = nv12(h, w, 0, 768)
    # The same planes as the CPU path has them, since a video is decoded to yuv420p there.
    y, uv = memory[:h, :w], memory[h:, :w].reshape(h // 2, w // 2, 2)
    planes = np.concatenate([y.ravel(), uv[..., 0].ravel(), uv[..., 1].ravel()]).reshape(-1, w)
    frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
    names = {"bt601": "ITU601", "bt709": "ITU709", "fcc": "FCC", "smpte240m": "SMPTE240M"}
    frame.colorspace = Colorspace[names[matrix]]
    frame.color_range = ColorRange.JPEG if full_range else ColorRange.MPEG
    bgr = frame.to_ndarray(format="bgr24")
    surface = Surface(
        address=memory.ctypes.data, size=size, pitch=768, format="nv12", matrix=matrix, full_range=full_range
    )
    table = np.array([describe_surface(surface, geometry_for(bgr, spec), 114)], PICTURE)
    got = launch(spec, table, (64, 96)) * 255
    wanted = letterbox([bgr], spec).images * 255
    # The same to the last bit where swscale takes its vector code; its plain code rounds otherwise.
    np.testing.assert_allclose(got, wanted, rtol=0, atol=2.01)
    assert (got == wanted).mean() > 0.9


def test_nv12_with_chroma_elsewhere() -> None:
    spec = make_spec(imgsz=(64, 64))
    memory = nv12(64, 64, 1, 128)
    geometry = LetterboxGeometry.compute((64, 64), (64, 64), rule=spec.letterbox)
    chroma = memory[64:].copy()
    memory_without = memory[:64].copy()
    tables = []
    for luma, where in ((memory, 0), (memory_without, chroma.ctypes.data)):
        surface = Surface(address=luma.ctypes.data, size=(64, 64), pitch=128, format="nv12", chroma=where)
        tables.append(np.array([describe_surface(surface, geometry, 114)], PICTURE))
    np.testing.assert_array_equal(*(launch(spec, table, (64, 64)) for table in tables))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"size": (0, 4)}, "without pixels"),
        ({"pitch": 11}, "rows overlap, got a pitch of 11 bytes, expected at least 12"),
        ({"size": (3, 4), "format": "nv12"}, "odd size"),
    ],
)
def test_bad_surfaces(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(SourceError, match=said):
        Surface(**{"address": 1, "size": (4, 4), "pitch": 12, **fields})

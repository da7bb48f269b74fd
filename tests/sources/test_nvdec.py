"""Videos through NVDEC's interface, in host memory: the pictures and times of PyAV, and what NVDEC cannot decode."""

from __future__ import annotations

import contextlib
import functools
import gc
import http.server
import sys
import threading
import types
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from av.video.stream import VideoStream

from tests.support.cuda_host.engine import at
from tests.support.cuda_host.machine import HostMachine
from tests.support.host_nvdec import DecodedPicture, HostNvdec, PixelFormat, Plane
from tests.support.media import cut, moving_box, picture, write_video
from yolotrt.errors import CudaError, MissingExtraError, SourceError, UsageError
from yolotrt.sources import NetworkSource, Source, VideoSource, Watcher
from yolotrt.sources.decoder_choice import OnNvdec, choose
from yolotrt.sources.decoders import AvDecoder, DamagedPacketError, DecodeRequest, Decoders, PictureDecoder
from yolotrt.sources.device_images import Budget, PooledImage
from yolotrt.sources.nvdec import Nvdec, queue_copy
from yolotrt.sources.nvdec_api import NvVideoCodec
from yolotrt.sources.pixels import Converter
from yolotrt.types import Frame, ImageU8

X265 = {"x265-params": "log-level=none:pools=none:frame-threads=1"}
X264 = {"x264-params": "bframes=2:b-adapt=0:keyint=12:scenecut=0"}  # always B-frames


class Told(Watcher):
    def __init__(self, wanted: Callable[[int], bool] = lambda _: True) -> None:
        self.decoders: list[tuple[str, str]] = []
        self.corrupted = 0
        self._wanted = wanted

    def decoder(self, name: str, why: str) -> None:
        self.decoders.append((name, why))

    def corrupt(self) -> None:
        self.corrupted += 1

    def wants(self, index: int, timestamp_s: float) -> bool:
        return self._wanted(index)


class Bench:
    """A GPU in host memory, with NVDEC."""

    has_av1 = True

    def __init__(self, *, limit: int = 1000, budget: int = 2**30) -> None:
        self.machine, self.api, self.told = HostMachine(), HostNvdec(), Told()
        self.limit, self.budget = limit, budget
        self.problems: list[SourceError] = []

    @property
    def nvdec(self) -> Nvdec:
        return Nvdec(
            api=cast("NvVideoCodec", self.api), machine=self.machine, limit=self.limit, budget=Budget(self.budget)
        )

    def source(self, path: Path, *, forced: bool = False) -> Source:
        source = VideoSource(path)
        source.decoders = Decoders(nvdec=OnNvdec(self.nvdec), forced=forced)
        source.watcher, source.on_problem = self.told, self.problems.append
        return source

    def frames(self, path: Path) -> list[Frame]:
        return list(self.source(path))

    def decoder(self, stream: VideoStream, *, container: str, at_once: bool = False) -> PictureDecoder:
        return Decoders(nvdec=OnNvdec(self.nvdec)).open(
            DecodeRequest(
                stream=stream,
                on_cpu=lambda: AvDecoder(stream.codec_context, Converter()),
                told=self.told.decoder,
                name="a",
                container=container,
                at_once=at_once,
            )
        )


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    gc.collect()
    assert made.machine.open == 0, "something was left open"


def by_pyav(path: Path) -> list[Frame]:
    source = VideoSource(path)
    source.on_problem = lambda _: None
    return list(source)


def noise(count: int, seed: int = 0) -> list[ImageU8]:
    """Squares of any colours; large enough for every decoder of a GPU."""
    rng = np.random.default_rng(seed)
    return [np.kron(rng.integers(0, 256, (6, 10, 3), np.uint8), np.ones((32, 26, 1), np.uint8)) for _ in range(count)]


def assert_same(got: list[Frame], wanted: list[Frame]) -> None:
    assert [(f.index, f.timestamp_s, f.size, f.source_id) for f in got] == [
        (f.index, f.timestamp_s, f.size, f.source_id) for f in wanted
    ]
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(a.pixels, b.pixels)


def on_gpu(frames: list[Frame]) -> list[bool]:
    return [isinstance(f.picture, PooledImage) for f in frames]


@pytest.mark.parametrize(
    ("suffix", "codec", "encoder"),
    [
        (".mp4", "libx264", X264),
        (".mkv", "libx264", X264),
        (".flv", "libx264", X264),
        (".ts", "libx264", X264),
        (".h264", "libx264", {"bf": "0"}),
        (".mp4", "libx265", X265),
        (".mkv", "libx265", X265),
        (".ts", "libx265", X265),
        (".mkv", "libsvtav1", {"preset": "10"}),
        (".mp4", "libsvtav1", {"preset": "10"}),
    ],
)
def test_frames_are_those_of_pyav(
    bench: Bench, tmp_path: Path, suffix: str, codec: str, encoder: dict[str, str]
) -> None:
    path = write_video(tmp_path / f"a{suffix}", noise(30), codec=codec, encoder=encoder)
    frames = bench.frames(path)
    assert_same(frames, by_pyav(path))
    assert not bench.problems
    if codec == "libsvtav1" and not bench.has_av1:
        assert bench.told.decoders == [("pyav", "this GPU does not decode av1")]
        return
    assert bench.told.decoders == [("nvdec", "")]
    assert all(on_gpu(frames))
    assert bench.told.corrupted == 0
    for frame in frames:
        assert frame.pixels.flags.c_contiguous
        assert frame.pixels.flags.writeable
        assert frame.pixels is frame.pixels, "fetched once"
    assert sum(f.decode_s for f in frames) > 0


def test_a_session_works_where_the_machine_does(bench: Bench, tmp_path: Path) -> None:
    bench.frames(write_video(tmp_path / "a.mp4", noise(2)))
    handle = bench.machine.handle
    assert bench.api.places == {(handle.index, handle.context, 0)}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_variable_frame_rate(bench: Bench, tmp_path: Path, suffix: str) -> None:
    ticks = [0, 40, 100, 110, 500, 520, 1000, 1001, 1400, 1440]
    path = write_video(tmp_path / f"vfr{suffix}", noise(len(ticks)), ticks=ticks, encoder=X264)
    assert_same(bench.frames(path), by_pyav(path))


def test_times_that_begin_anew(bench: Bench, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.ts", noise(75), encoder=X264)
    path.write_bytes(path.read_bytes() * 2)
    frames = bench.frames(path)
    assert_same(frames, by_pyav(path))
    assert all(on_gpu(frames))
    assert frames[-1].timestamp_s == pytest.approx(149 / 25)


def test_ntsc_times(bench: Bench, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", noise(10), fps=Fraction(30000, 1001))
    assert [f.timestamp_s for f in bench.frames(path)] == pytest.approx([i * 1001 / 30000 for i in range(10)], abs=1e-9)


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize(("number", "matrix"), [(1, "bt709"), (5, "bt601"), (7, "smpte240m"), (9, "bt2020")])
def test_matrix_and_range_are_those_of_the_stream(
    bench: Bench, tmp_path: Path, number: int, matrix: str, full_range: bool
) -> None:
    path = write_video(tmp_path / "a.mp4", noise(3), colorspace=number, full_range=full_range)
    frames = bench.frames(path)
    surface = cast("PooledImage", frames[0].picture).surface(bench.machine)
    assert surface is not None
    assert (surface.matrix, surface.full_range, surface.format) == (matrix, full_range, "nv12")
    assert surface.size == (192, 260)
    assert_same(frames, by_pyav(path))


def test_a_stream_that_names_no_matrix_is_bt601(bench: Bench, tmp_path: Path) -> None:
    frames = bench.frames(write_video(tmp_path / "a.mp4", noise(1)))
    surface = cast("PooledImage", frames[0].picture).surface(bench.machine)
    assert surface is not None
    assert (surface.matrix, surface.full_range) == ("bt601", False)


def interlaced(path: Path) -> Path:
    return write_video(path, noise(4), encoder={"flags": "+ilme+ildct", "x264-params": "tff=1"})


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda p: write_video(p / "a.mp4", noise(4), rotation=90), "the pictures are to be turned"),
        (lambda p: write_video(p / "a.mp4", noise(4), mirrored=True), "the pictures are to be turned"),
        (lambda p: write_video(p / "a.mp4", noise(4), pix_fmt="yuv420p10le"), "yuv420p10le, not 4:2:0 with 8 bits"),
        (lambda p: write_video(p / "a.mp4", noise(4), pix_fmt="yuv444p"), "yuv444p, not 4:2:0 with 8 bits"),
        (lambda p: interlaced(p / "a.mp4"), "the pictures are interlaced"),
        (lambda p: write_video(p / "a.avi", noise(4), encoder=X264), "AVI does not say when its pictures are shown"),
        (lambda p: write_video(p / "a.mp4", noise(4), codec="mpeg4"), "the codec is mpeg4"),
        (lambda p: write_video(p / "a.mkv", noise(4), codec="libvpx-vp9"), "the codec is vp9"),
    ],
)
def test_what_pyav_decodes_instead(bench: Bench, tmp_path: Path, make: Callable[[Path], Path], why: str) -> None:
    path = make(tmp_path)
    frames = bench.frames(path)
    [(name, said)] = bench.told.decoders
    assert name == "pyav"
    assert why in said
    assert not any(on_gpu(frames))
    assert_same(frames, by_pyav(path))
    with pytest.raises(SourceError, match=f"a.*: NVDEC cannot decode it: .*{why}.*--decoder auto"):
        list(bench.source(path, forced=True))


def test_an_odd_size(bench: Bench, tmp_path: Path) -> None:
    images = [image[:191, :259] for image in noise(4)]
    path = write_video(tmp_path / "a.mkv", images, codec="libsvtav1", encoder={"preset": "10"})
    assert_same(bench.frames(path), by_pyav(path))
    assert bench.told.decoders == [("pyav", "259x191 is an odd size")]


@pytest.mark.parametrize(
    ("caps", "why"),
    [
        ({"width_max": 0, "height_max": 0}, "this GPU does not decode h264"),
        ({"width_max": 120}, "this GPU decodes h264 from 16x16 to 120x4096, not 260x192"),
        ({"height_min": 200}, "not 260x192"),
        ({"mb_num_max": 203}, "260x192 is more than this GPU decodes of h264"),
    ],
)
def test_what_the_gpu_does_not_decode(bench: Bench, tmp_path: Path, caps: dict[str, int], why: str) -> None:
    bench.api.caps |= caps
    path = write_video(tmp_path / "a.mp4", noise(4))
    assert_same(bench.frames(path), by_pyav(path))
    assert bench.told.decoders[0][0] == "pyav"
    assert why in bench.told.decoders[0][1]


def test_frames_hidden_by_an_edit_list(bench: Bench, tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4", noise(24), encoder=X264)
    path = tmp_path / "a.mp4"
    with av.open(str(whole)) as source, av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is None or packet.pts is None or not packet.duration:
                continue
            shift = 5 * packet.duration
            packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
            target.mux(packet)
    wanted = by_pyav(path)
    assert len(wanted) == 19, "the edit list hides frames"
    assert_same(bench.frames(path), wanted)
    assert bench.told.decoders == [("nvdec", "")]


def test_a_file_that_is_cut_short(bench: Bench, tmp_path: Path) -> None:
    path = cut(write_video(tmp_path / "a.ts", noise(60), encoder={"g": "10"}), 0.6)
    frames, wanted = bench.frames(path), by_pyav(path)
    # Of the last picture a part is there; what the rest looks like is up to each decoder.
    assert [f.timestamp_s for f in frames] == [f.timestamp_s for f in wanted]
    assert_same(frames[:-1], wanted[:-1])
    assert len(frames) > 30


def test_frames_that_nobody_wants_stay_where_they_are(bench: Bench, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", noise(30))
    bench.told = Told(lambda index: index % 10 == 3)
    taken = []
    allocate = bench.machine.allocate
    bench.machine.allocate = lambda size: taken.append(size) or allocate(size)  # type: ignore[method-assign,func-returns-value]
    frames = bench.frames(path)
    assert [f.index for f in frames] == [3, 13, 23]
    assert len(taken) == 3
    assert_same(frames, [by_pyav(path)[i] for i in (3, 13, 23)])


def test_surfaces_are_used_again(bench: Bench, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", noise(30))
    addresses = set()
    for frame in bench.source(path):
        surface = cast("PooledImage", frame.picture).surface(bench.machine)
        assert surface is not None
        addresses.add(surface.address)
        del surface
    assert len(addresses) <= 2


def test_as_many_surfaces_as_may_be(tmp_path: Path) -> None:
    bench = Bench(limit=5)
    path = write_video(tmp_path / "a.mp4", noise(20))
    frames = bench.frames(path)
    assert on_gpu(frames) == [True] * 5 + [False] * 15
    assert_same(frames, by_pyav(path))
    del frames
    assert all(on_gpu([frame for frame in bench.source(path) if frame.index % 3 == 0][:5]))
    gc.collect()
    assert bench.machine.open == 0


def test_the_memory_of_all_streams_together(tmp_path: Path) -> None:
    size = 192 * 260 * 3 // 2
    bench = Bench(budget=4 * size)
    path = write_video(tmp_path / "a.mp4", noise(8))
    nvdec = bench.nvdec
    both = []
    for _ in range(2):
        source = bench.source(path)
        source.decoders = Decoders(nvdec=OnNvdec(nvdec))
        both.append(list(source))
    assert [sum(on_gpu(frames)) for frames in both] == [4, 0]
    both.clear()
    source = bench.source(path)
    source.decoders = Decoders(nvdec=OnNvdec(nvdec))
    assert sum(on_gpu(list(source))) == 4, "what was taken came back"
    allocate = bench.machine.allocate
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bench.machine, "pin", allocate)
        patched.setattr(bench.machine, "allocate", lambda wanted: allocate(2**50 if wanted == size else wanted))
        assert sum(on_gpu(bench.frames(path))) == 0


def test_pictures_outlive_their_source(bench: Bench, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", noise(6))
    frames = bench.frames(path)
    assert bench.machine.open == 4, "memory for 1, 1, 2 and 4 pictures"
    wanted = by_pyav(path)
    for frame, other, left in zip(frames, wanted, (3, 2, 2, 1, 1, 0), strict=True):
        np.testing.assert_array_equal(frame.pixels, other.pixels)
        assert bench.machine.open == left, "on the host, its surface is free"
        assert cast("PooledImage", frame.picture).surface(bench.machine) is None


def test_threads_fetch_a_picture_once(bench: Bench, tmp_path: Path) -> None:
    frames = bench.frames(write_video(tmp_path / "a.mp4", noise(4)))
    found: list[ImageU8] = []
    threads = [threading.Thread(target=lambda: found.extend(f.pixels for f in frames)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert len({id(pixels) for pixels in found}) == 4


@pytest.mark.parametrize(("pitch", "apart"), [(64, 0), (96, 0), (64, 5), (96, 640)])
def test_a_picture_is_copied_in_as_few_pieces_as_it_lies_in(pitch: int, apart: int) -> None:
    machine, (height, width) = HostMachine(), (32, 64)
    memory = np.random.default_rng(0).integers(0, 256, pitch * height * 3 // 2 + apart, np.uint8)
    rows = memory[: pitch * height].reshape(height, pitch)
    pairs = memory[pitch * height + apart :].reshape(height // 2, pitch)
    queue, copied, calls = machine.queue(), np.zeros((height * 3 // 2, width), np.uint8), Counter[str]()
    with pytest.MonkeyPatch.context() as patched:
        for name in ("copy", "copy_blocks"):
            patched.setattr(queue, name, functools.partial(counted, calls, name, getattr(queue, name)))
        luma, chroma = Plane(rows, (height, width, 1)), Plane(pairs, (height // 2, width // 2, 2))
        queue_copy(queue, copied.ctypes.data, luma, chroma, (height, width))
    np.testing.assert_array_equal(copied, np.concatenate((rows[:, :width], pairs[:, :width])))
    assert calls["copy_blocks"] == (2 if apart else pitch != width)
    assert calls["copy_blocks"] or calls["copy"] == 1


def counted(calls: Counter[str], name: str, work: Callable[..., None], *arguments: int) -> None:
    calls[name] += 1
    work(*arguments)


def test_a_part_is_the_same_memory(bench: Bench, tmp_path: Path) -> None:
    [frame] = bench.frames(write_video(tmp_path / "a.mp4", noise(1)))
    whole = cast("PooledImage", frame.picture)
    part = whole.cropped((20, 10, 100, 70)).cropped((4, 2, 40, 32))
    assert part.size == (30, 36)
    surface, outer = part.surface(bench.machine), whole.surface(bench.machine)
    assert surface is not None
    assert outer is not None
    assert part.surface(HostMachine()) is None
    nv12 = at(outer.address, (288, 260), "uint8")
    luma = at(surface.address, (29 * surface.pitch + 36,), "uint8")
    assert luma[0] == nv12[12, 24]
    assert luma[-1] == nv12[41, 59]
    chroma = at(surface.chroma, (14 * surface.pitch + 36,), "uint8")
    assert (chroma[:2] == nv12[192 + 6, 24:26]).all()
    del surface, outer
    np.testing.assert_array_equal(part.on_host(), frame.pixels[12:42, 24:60])
    assert part.surface(bench.machine) is None, "the whole is on the host by now"


def test_a_gpu_that_fails_while_a_picture_is_fetched(bench: Bench, tmp_path: Path) -> None:
    [frame] = bench.frames(write_video(tmp_path / "a.mp4", noise(1)))
    bench.machine.fails = True
    with pytest.raises(CudaError):
        _ = frame.pixels
    bench.machine.fails = False
    assert frame.pixels.shape == (192, 260, 3)


def test_a_picture_that_cannot_be_reached(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("cuPointerGetAttribute returned error 1")

    path = write_video(tmp_path / "a.mp4", noise(1))
    monkeypatch.setattr(DecodedPicture, "cuda", fail)
    with pytest.raises(CudaError, match="a picture of NVDEC cannot be reached: cuPointerGetAttribute returned error 1"):
        bench.frames(path)


def test_no_more_sessions(bench: Bench, tmp_path: Path) -> None:
    bench.api.most = 0
    path = write_video(tmp_path / "a.mp4", noise(4))
    assert_same(bench.frames(path), by_pyav(path))
    assert bench.told.decoders == [
        ("pyav", "NVDEC failed: cuvidCreateDecoder returned error 2: CUDA_ERROR_OUT_OF_MEMORY")
    ]
    assert bench.told.corrupted == 0


def test_a_session_that_fails_at_once(bench: Bench, tmp_path: Path) -> None:
    bench.api.fails_at = {0: True}
    path = write_video(tmp_path / "a.mp4", noise(4))
    assert_same(bench.frames(path), by_pyav(path))
    [_, (name, why)] = bench.told.decoders
    assert (name, why) == ("pyav", "NVDEC failed: HandlePictureDecode : cuvidDecodePicture returned error 999")


def test_a_session_that_fails_on_the_way(bench: Bench, tmp_path: Path) -> None:
    bench.api.fails_at = {15: True}
    path = write_video(tmp_path / "a.mp4", noise(40), encoder={"g": "10", "bf": "0", "sc_threshold": "0"})
    frames, wanted = bench.frames(path), by_pyav(path)
    times = [f.timestamp_s for f in frames]
    lost = {f.timestamp_s for f in wanted} - set(times)
    assert bench.told.corrupted == 1
    assert times == sorted(times)
    assert 0 < len(lost) <= 10
    assert all(14 / 25 - 0.2 <= t < 20 / 25 for t in lost)
    pictures = {f.timestamp_s: f for f in wanted}
    for frame in frames:
        np.testing.assert_array_equal(frame.pixels, pictures[frame.timestamp_s].pixels)
    assert len(bench.api.sessions) == 2
    assert bench.told.decoders == [("nvdec", "")]
    [problem] = bench.problems
    assert f"{path}: the video is damaged (1 packets cannot be decoded); the {len(frames)} frames" in str(problem)


def test_sessions_that_fail_again_and_again(bench: Bench, tmp_path: Path) -> None:
    # Each session fails before it has given a picture.
    bench.api.fails_at = dict.fromkeys(range(1, 100), True)
    path = write_video(
        tmp_path / "a.h264", noise(40), encoder={"x264-params": "bframes=6:b-adapt=0:keyint=8:scenecut=0"}
    )
    frames = bench.frames(path)
    assert [name for name, _ in bench.told.decoders] == ["nvdec", "pyav"]
    assert bench.told.corrupted == 2
    assert len(frames) >= 16, "from the third key frame on"
    assert not on_gpu(frames)[-1]


def test_pictures_that_grow(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "a.h264"
    parts = [
        write_video(tmp_path / f"{n}.h264", [picture(size)] * 5, encoder={"bf": "0", "tune": "zerolatency"})
        for n, size in enumerate([(48, 64), (96, 128), (48, 64)])
    ]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames = bench.frames(path)
    assert [f.size for f in frames] == [(48, 64)] * 5 + [(96, 128)] * 5 + [(48, 64)] * 5
    assert_same(frames, by_pyav(path))
    assert bench.told.decoders == [("nvdec", "")]
    assert all(on_gpu(frames))


def test_headers_that_the_container_changes(bench: Bench, tmp_path: Path) -> None:
    parts = [
        write_video(tmp_path / f"{n}.flv", noise(9, seed=n), encoder={**X264, "crf": str(20 + n)}) for n in range(2)
    ]
    path = tmp_path / "both.flv"
    path.write_bytes(parts[0].read_bytes() + parts[1].read_bytes()[13:])  # without its file header
    frames = bench.frames(path)
    assert_same(frames, by_pyav(path))
    assert on_gpu(frames) == [True] * 9 + [False] * 9
    assert bench.told.decoders == [("nvdec", ""), ("pyav", "its headers change on the way")]


def test_colours_that_change(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "a.h264"
    parts = [
        write_video(tmp_path / f"{n}.h264", noise(5, seed=n), colorspace=n, full_range=n == 1, encoder=X264)
        for n in (1, 5)
    ]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames = bench.frames(path)
    assert_same(frames, by_pyav(path))
    assert len(bench.api.sessions) == 2
    assert all(on_gpu(frames))


def test_pictures_of_another_format(bench: Bench, tmp_path: Path) -> None:
    bench.api.gives = PixelFormat.P016
    path = write_video(tmp_path / "a.mp4", noise(12), encoder={"g": "4", "bf": "0", "tune": "zerolatency"})
    frames = bench.frames(path)
    assert_same(frames, by_pyav(path))
    assert bench.told.decoders[-1] == ("pyav", "the pictures have become P016")


def test_b_frames_that_no_header_tells(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", noise(36), encoder=X264)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder = bench.decoder(stream, container="mp4", at_once=True)
        monkeypatch.setattr(decoder, "_at_once", True)
        times = [frame.pts for packet in container.demux(stream) for frame in decoder.decode(packet)]
        decoder.close()
    assert None not in times
    wanted = sorted(cast("list[int]", times))
    assert len(set(wanted)) == 36
    assert times[:12] != wanted[:12], "the first key frame's pictures come in the order of decoding"
    assert times[12:] == wanted[12:]
    assert len(bench.api.sessions) == 2
    assert bench.told.decoders == [("nvdec", "")]


def test_b_frames_around_time_zero(bench: Bench, tmp_path: Path) -> None:
    """Zero is a time like any other."""
    path = write_video(tmp_path / "a.mp4", noise(24), encoder={"g": "6", "bf": "0", "tune": "zerolatency"})
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder = bench.decoder(stream, container="mp4", at_once=True)
        for number, packet in enumerate(container.demux(stream)):
            if packet.size:
                packet.pts = 512 * {1: 2, 2: 1}.get(number, number) - 1024
                decoder.decode(packet)
        decoder.close()
    assert len(bench.api.sessions) == 2, "from the second key frame on it waits for them"


def test_a_clock_that_is_set_back_is_no_b_frame(bench: Bench, tmp_path: Path) -> None:
    """Each picture still comes with its packet."""
    path = write_video(tmp_path / "a.mp4", noise(24), encoder={"g": "6", "bf": "0", "tune": "zerolatency"})
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        decoder = bench.decoder(stream, container="mp4", at_once=True)
        for number, packet in enumerate(container.demux(stream)):
            if packet.size and packet.pts is not None:
                packet.pts += int((100 if number < 9 else 90) / stream.time_base)
                assert [frame.pts for frame in decoder.decode(packet)] == [packet.pts]
        decoder.close()
    assert len(bench.api.sessions) == 1


def test_pictures_before_a_damaged_key_frame_are_not_lost(bench: Bench, tmp_path: Path) -> None:
    """A session ends at another key frame, with pictures that it still holds; they come with the next packet."""
    path = write_video(tmp_path / "a.h264", noise(24), encoder=X264)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder = bench.decoder(stream, container="h264", at_once=True)
        packets = [packet for packet in container.demux(stream) if packet.size]
        bad = av.Packet(b"\0\0\0\1\x67\xff\xff\xff\0\0\0\1\x65\xff\xff\xff")
        bad.is_keyframe = True
        shown = [frame.picture() for packet in packets[:12] for frame in decoder.decode(packet)]
        assert len(shown) < 12, "it holds some back"
        for _ in range(2):
            with pytest.raises(DamagedPacketError):
                decoder.decode(bad)
        shown += [frame.picture() for frame in decoder.decode(packets[12])]
        decoder.close()
    wanted = by_pyav(path)[: len(shown)]
    assert len(shown) >= 12
    for picture_, frame in zip(shown, wanted, strict=True):
        pixels = picture_ if isinstance(picture_, np.ndarray) else picture_.on_host()
        np.testing.assert_array_equal(pixels, frame.pixels)


@pytest.mark.parametrize(("at_once", "damaged"), [(True, 2), (True, 3), (False, 1)])
def test_key_frames_that_are_damaged(bench: Bench, tmp_path: Path, at_once: bool, damaged: int) -> None:
    path = write_video(tmp_path / "a.h264", noise(5), encoder={"bf": "0", "tune": "zerolatency"})
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder = bench.decoder(stream, container="h264", at_once=at_once)
        bad = av.Packet(b"\0\0\0\1\x65\xff\xff\xff")
        bad.is_keyframe = True
        for _ in range(damaged):
            with contextlib.suppress(DamagedPacketError):
                assert decoder.decode(bad) == []
        frames = [frame for packet in container.demux(stream) for frame in decoder.decode(packet)]
        decoder.close()
    assert len(frames) == 5
    wanted = ("nvdec", "") if at_once and damaged < 3 else ("pyav", "its first picture cannot be looked at")
    assert bench.told.decoders == [wanted]


def test_a_recording_over_http(bench: Bench, tmp_path: Path) -> None:
    good = write_video(tmp_path / "good.mp4", noise(20))
    write_video(tmp_path / "deep.mp4", noise(4), pix_fmt="yuv420p10le")
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        try:
            for forced in (False, True):
                source = NetworkSource(f"{address}/good.mp4")
                source.decoders, source.watcher = Decoders(nvdec=OnNvdec(bench.nvdec), forced=forced), bench.told
                frames = list(source)
                assert all(on_gpu(frames))
                for frame, wanted in zip(frames, by_pyav(good), strict=True):
                    np.testing.assert_array_equal(frame.pixels, wanted.pixels)
            source = NetworkSource(f"{address}/deep.mp4")
            source.decoders = Decoders(nvdec=OnNvdec(bench.nvdec), forced=True)
            with pytest.raises(SourceError, match=r"deep\.mp4: NVDEC cannot decode it: the pictures are yuv420p10le"):
                list(source)
        finally:
            server.shutdown()
    assert bench.told.decoders == [("nvdec", "")] * 2


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name is the base class's)
        pass


def test_a_stream_without_key_frames(bench: Bench, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_box(320, (32, 48)), encoder={"g": "400", "bf": "0"})
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder = bench.decoder(stream, container="mp4")
        first, *others = container.demux(stream)
        assert first.is_keyframe
        for packet in others[:300]:
            assert decoder.decode(packet) == []
        assert bench.told.decoders == []
        with contextlib.suppress(DamagedPacketError):  # it lacks what they rest on
            for packet in others[300:]:
                decoder.decode(packet)
        decoder.close()
    assert bench.told.decoders == [("pyav", "it has no key frames")]


def test_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, api = HostMachine(), HostNvdec()
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", cast("types.ModuleType", api))
    found = choose("auto", machine, reason="", limit=7)
    assert isinstance(found.nvdec, OnNvdec)
    nvdec = found.nvdec.nvdec
    assert nvdec.machine is machine
    assert nvdec.api is cast("Any", api)
    assert (found.forced, nvdec.limit, found.why) == (False, 7, "")
    assert str(found) == "NVDEC, and PyAV for what it cannot decode"
    assert choose("nvdec", machine, reason="", limit=7).forced
    assert str(choose("nvdec", machine, reason="", limit=7)) == "NVDEC"
    assert choose("pyav", machine, reason="it is slow", limit=7) == Decoders()
    assert str(choose("auto", None, reason="", limit=7)) == ""
    assert str(choose("auto", None, reason="the model runs elsewhere", limit=7)) == "PyAV (the model runs elsewhere)"
    with pytest.raises(UsageError, match="NVDEC cannot decode for this model, got the model runs elsewhere"):
        choose("nvdec", None, reason="the model runs elsewhere", limit=7)
    with pytest.raises(UsageError, match="NVDEC cannot decode for this model, got a model that runs on the CPU"):
        choose("nvdec", None, reason="", limit=7)
    with pytest.raises(UsageError, match="option decoder is unknown, got cuvid"):
        choose(cast("Any", "cuvid"), machine, reason="", limit=7)


def test_without_pynvvideocodec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", None)
    found = choose("auto", HostMachine(), reason="", limit=7)
    assert found.nvdec is None
    assert found.why == 'PyNvVideoCodec is not installed: pip install "yolotrt[gpu]"'
    with pytest.raises(MissingExtraError, match=r"yolotrt\[gpu\]"):
        choose("nvdec", HostMachine(), reason="", limit=7)


def test_pynvvideocodec_that_cannot_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "PyNvVideoCodec.py").write_text(
        "raise RuntimeError('\\n libnvidia-encode.so.1: not there\\n\\n1. Docker?')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "PyNvVideoCodec", raising=False)
    found = choose("auto", HostMachine(), reason="", limit=7)
    assert found.why == "PyNvVideoCodec cannot start: libnvidia-encode.so.1: not there"
    with pytest.raises(UsageError, match="NVDEC cannot decode here: PyNvVideoCodec cannot start"):
        choose("nvdec", HostMachine(), reason="", limit=7)

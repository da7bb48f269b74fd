"""The headers of real streams, as encoders write them."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.media import moving_box, write_video
from yolotrt.sources.bitstream import length_size, sequence_headers, with_start_codes

CODECS = {
    "h264": ("libx264", ".h264", {"g": "5", "bf": "0"}),
    "hevc": ("libx265", ".hevc", {"x265-params": "log-level=none:keyint=5:repeat-headers=1"}),
    "av1": ("libsvtav1", ".mkv", {"preset": "10", "g": "5"}),
}


def packets(path: Path) -> list[tuple[bool, bytes]]:
    with av.open(str(path)) as container:
        return [(p.is_keyframe, bytes(p)) for p in container.demux(video=0) if p.size]


@pytest.mark.parametrize("codec", CODECS)
def test_headers_stand_before_key_frames(codec: str, tmp_path: Path) -> None:
    encoder, suffix, options = CODECS[codec]
    found = {}
    for size in ((96, 128), (128, 160)):
        path = write_video(tmp_path / f"{size[0]}{suffix}", moving_box(12, size), codec=encoder, encoder=options)
        told = [(is_key, sequence_headers(codec, data)) for is_key, data in packets(path)]
        assert all(bool(headers) == is_key for is_key, headers in told)
        assert sum(is_key for is_key, _ in told) >= 2
        assert len({headers for is_key, headers in told if is_key}) == 1, "they do not change"
        [found[size]] = told[0][1]
    assert len(set(found.values())) == 2, "another size, other headers"


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_start_codes_in_place_of_lengths(codec: str, tmp_path: Path) -> None:
    encoder, _, options = CODECS[codec]
    path = write_video(tmp_path / "a.mp4", moving_box(12, (96, 128)), codec=encoder, encoder=options)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert length_size(codec, bytes(stream.codec_context.extradata or b"")) == 4
        ffmpeg = av.BitStreamFilterContext(f"{codec}_mp4toannexb", stream)
        others = 0
        for packet in container.demux(stream):
            if not packet.size:
                continue
            data, is_key = bytes(packet), packet.is_keyframe
            [wanted] = map(bytes, ffmpeg.filter(packet))
            found = with_start_codes(data)
            assert found is not None
            if not is_key:  # into those, FFmpeg puts headers as well
                others += 1
                assert units(found) == units(wanted)
        assert others >= 9


def units(data: bytes) -> bytes:
    """With start codes of three bytes, which FFmpeg writes behind the first."""
    return data.replace(b"\0\0\0\1", b"\0\0\1")


@pytest.mark.parametrize("data", [b"\0\0\0\2a", b"\0\0\0\1abc", b"\0\0\0\0", b"\0\0\0\1a\0\0", b"\0\0\0\0\0\0\0\1a"])
def test_lengths_that_do_not_add_up(data: bytes) -> None:
    assert with_start_codes(data) is None


def test_headers_that_are_too_short() -> None:
    assert length_size("hevc", b"\1" * 21) == 0


@given(data=st.binary(max_size=60) | st.lists(st.sampled_from([b"\0\0\0", b"\1", b"\2", b"a"])).map(b"".join))
def test_any_lengths(data: bytes) -> None:
    found = with_start_codes(data)
    assert found is None or len(found) == len(data)


@pytest.mark.parametrize("codec", CODECS)
@given(
    data=st.binary(max_size=60)
    | st.lists(st.sampled_from([b"\0\0\1", b"\0", b"\x67", b"\x42\1", b"\x0a\2", b"\xff"])).map(b"".join)
)
def test_anything_ends(codec: str, data: bytes) -> None:
    assert all(isinstance(header, bytes) for header in sequence_headers(codec, data))

"""What encoders are asked for exists in the FFmpeg that is here; NVENC itself needs a GPU."""

from __future__ import annotations

import av
import pytest

from yolotrt.sinks import h264

STRINGS = ("preset", "tune")  # libx264 takes them as they are


@pytest.mark.parametrize("encoder", ["h264_nvenc", "libx264"])
def test_options_exist_and_take_these_values(encoder: str) -> None:
    if encoder not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {encoder}")
    known = getattr(av.CodecContext.create(encoder, "w"), "supported_options", None)
    if known is None:
        pytest.skip("this PyAV does not tell the options")
    options = {option.name: option for option in (*known.generic, *known.private)}
    for name, value in [*h264._OPTIONS[encoder].items(), *h264._AT_ONCE[encoder].items(), ("bf", "0"), ("g", "50")]:
        option = options[name]
        if value in {choice.name for choice in option.choices} or (encoder == "libx264" and name in STRINGS):
            continue
        assert option.min <= float(value) <= option.max, name

"""What the packets of a video say before any decoder looks at them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import av

_START = b"\0\0\1"
_AV1_SEQUENCE = 1


def sequence_headers(codec: str, data: bytes) -> frozenset[bytes]:
    """The headers in front of a packet's picture that tell size, format and colours of those that follow.

    Args:
        codec: `h264` or `hevc`, with start codes, or `av1`.
        data: one packet.
    """
    if codec == "av1":
        return frozenset(content for kind, content in _obus(data) if kind == _AV1_SEQUENCE)
    return frozenset(unit for unit in _units_before_picture(codec, data) if _is_sequence(codec, unit[0]))


def with_start_codes(data: bytes) -> bytes | None:
    """A packet of units behind their lengths, as MP4 has them, with start codes in place of these.

    Args:
        data: one packet of H.264 or HEVC; lengths of 4 bytes.

    Returns: as many bytes; None where the lengths do not add up.
    """
    found, at = bytearray(data), 0
    while at + 4 < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found[at : at + 4] = b"\0\0\0\1"
        at += 4 + size
        if not size:
            return None
    return bytes(found) if at == len(data) else None


def length_size(codec: str, extradata: bytes) -> int:
    """Bytes of the lengths that stand before the units of a packet, by the headers of an MP4; 0 for what is none."""
    at = 4 if codec == "h264" else 21
    return (extradata[at] & 3) + 1 if len(extradata) > at else 0


def brings_headers(packet: av.Packet[Any]) -> bool:
    """Whether the container has found other headers than those that it began with."""
    has: Callable[[str], bool] | None = getattr(packet, "has_sidedata", None)  # PyAV 16 and later
    return has is not None and has("new_extradata")


def jpeg_is_truncated(data: bytes) -> bool:
    """Whether a JPEG has no end marker.

    Walks the segments to the start of the scan; behind it only the picture's own end marker can be FF D9. (Before it,
    the thumbnail in the EXIF segment brings an end marker of its own.)
    """
    position = 2
    while position + 4 <= len(data):
        marker, length = struct.unpack_from(">HH", data, position)
        if marker == 0xFFDA:
            return data.rfind(b"\xff\xd9", position) < 0
        if marker == 0xFFFF:  # fill byte
            position += 1
        elif marker >> 8 != 0xFF:
            return False  # not cut but damaged: the decoder's to judge
        else:
            position += 2 + length
    return True


def _is_sequence(codec: str, first: int) -> bool:
    return first & 31 == 7 if codec == "h264" else first >> 1 & 63 == 33


def _is_picture(codec: str, first: int) -> bool:
    return 1 <= first & 31 <= 5 if codec == "h264" else first >> 1 & 63 < 32


def _units_before_picture(codec: str, data: bytes) -> Iterator[bytes]:
    at = data.find(_START)
    while 0 <= at < len(data) - 3:
        start = at + 3
        if _is_picture(codec, data[start]):
            return
        at = data.find(_START, start)
        # A start code may have a zero more in front, which no unit ends in.
        yield (data[start:at] if at >= 0 else data[start:]).rstrip(b"\0") or b"\0"


def _obus(data: bytes) -> Iterator[tuple[int, bytes]]:
    """AV1's units: kind and content. Ends at what makes no sense."""
    at = 0
    while at < len(data):
        head = data[at]
        at += 2 if head & 4 else 1
        size, shift = 0, 0
        if not head & 2:  # the last one may leave its size out
            size = len(data) - at
        while head & 2 and at < len(data) and shift < 56:
            size |= (data[at] & 127) << shift
            shift += 7
            at += 1
            if not data[at - 1] & 128:
                break
        yield head >> 3 & 15, data[at : at + size]
        at += size

"""Addresses of cameras and network streams, and how they are shown: never with a password."""

from __future__ import annotations

import os
import re

from yolotrt.errors import UsageError

SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "srt", "udp", "tcp")
"""What FFmpeg reads from a network."""

_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")
_SECRET = re.compile(
    r"((?:pass(?:word|wd|phrase)?|pwd|token|secret|(?:api|stream)?key|auth|sig(?:nature)?)=)[^&#/]*", re.I
)
_CREDENTIALS = re.compile(r"[^\s/]*:[^\s@]*@")
_VARIABLE = re.compile(r"\$\{(\w+)\}")


def scheme_of(text: str) -> str | None:
    """`rtsp` for `RTSP://...`; None for what is no address."""
    found = _SCHEME.match(text)
    return found[1].lower() if found else None


def is_address(text: str) -> bool:
    """Whether it is the address of a network stream. Raises UsageError, without the address, for an unknown scheme."""
    scheme = scheme_of(text)
    if scheme is None:
        return False
    if scheme not in SCHEMES:
        raise UsageError(
            f"{scheme}:// sources are not supported",
            expected="a file, a webcam's number, or " + ", ".join(f"{name}://" for name in SCHEMES),
        )
    return True


def is_webcam(text: str) -> bool:
    """Whether it is a webcam's number or device file."""
    return (text.isascii() and text.isdecimal() and len(text) <= 3) or text.startswith("/dev/video")


def without_credentials(url: str) -> str:
    """The address for people: without `user:password@`, and with `***` for what looks like a secret behind it."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    # A password may hold any character, also @ and /: what comes before the last @ of the address is left out.
    rest = rest.rpartition("@")[2] if "@" in rest else rest
    return scheme + "://" + _SECRET.sub(r"\1***", rest)


def without_slips(text: str) -> str:
    """A name that is no file, for people: it may be an address that was mistyped (`rtsp:/user:password@...`)."""
    return _CREDENTIALS.sub("***@", text) if scheme_of(text) is None else without_credentials(text)


def with_environment(text: str, *, where: str) -> str:
    """Put in environment variables, so that no file holds a password. Raises UsageError for one that is not set."""

    def value(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            raise UsageError(f"{where}: the environment variable {found[1]} is not set")
        return os.environ[found[1]]

    return _VARIABLE.sub(value, text)

"""Addresses of cameras and network streams, and how they are shown: never with a password."""

from __future__ import annotations

import os
import re

from yolotrt.errors import UsageError

SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "srt", "udp", "tcp")
"""What FFmpeg reads from a network."""

_WITH_HOST = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps")
"""Those that nobody listens with: by udp://:PORT, tcp and srt, a camera may come to this machine."""

_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")
# More names than those of secrets have these in them, and a secret may hold a /: rather too much is hidden.
_SECRET = re.compile(r"(?<![\w.-])([\w.-]*(?:pas|pw|psw|pin|token|secret|key|auth|sig|cred|jwt)[\w.-]*=)[^&#\s]*", re.I)
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


def check_place(url: str, *, what: str = "the address of a stream") -> None:
    """Raise UsageError for an address that no attempt could ever connect to: without a host, or with a port like 99999.

    Args:
        what: the address is, for the message; the password in it is not shown.
    """
    scheme, _, rest = url.partition("://")
    authority = _authority(rest)
    host, colon, port = _place(authority)
    is_in_password = "@" in rest[len(authority) :] and "@" not in authority
    remedy = "In a password, write / as %2F, ? as %3F and # as %23." if is_in_password else None
    if scheme.lower() in _WITH_HOST and not host:
        raise UsageError(
            f"{what} has no host", got=without_credentials(url), expected=f"{scheme}://HOST", remedy=remedy
        )
    if colon and not (port.isascii() and port.isdecimal() and 0 < int(port) <= 65_535):
        is_number = port.isascii() and port.isdecimal()  # what is none may be the password
        raise UsageError(
            f"{what} has an impossible port", got=port if is_number else None, expected="1 to 65535", remedy=remedy
        )


def host_of(url: str) -> str:
    """The host, without user and port; empty where there is none."""
    return _place(_authority(url.partition("://")[2]))[0]


def has_credentials(url: str) -> bool:
    """Whether a user, and maybe a password, stands in front of the host."""
    return bool(_authority(url.partition("://")[2]).rpartition("@")[0])


def _authority(rest: str) -> str:
    """`user:password@host:port`, as FFmpeg reads it: the first of these characters ends it, even in a password."""
    return re.split(r"[/?#]", rest, maxsplit=1)[0]


def _place(authority: str) -> tuple[str, str, str]:
    """The host without its brackets, the colon behind it, and what stands for the port; empty where there is none."""
    place = authority.rpartition("@")[2]
    host, colon, port = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(:?)(.*)", place, re.DOTALL).groups()  # type: ignore[union-attr]
    return host.strip("[] "), colon, port


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

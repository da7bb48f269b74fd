from __future__ import annotations

import sys

import pytest

from yolotrt.errors import MissingExtraError, SourceError, UsageError
from yolotrt.sources import open_source
from yolotrt.sources.address import check_place, is_webcam, without_credentials


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://camera/1", "rtsp://camera/1"),
        ("rtsp://me:secret@camera:554/1?profile=2", "rtsp://camera:554/1?profile=2"),
        ("rtsp://me:sec@ret@camera/1", "rtsp://camera/1"),
        ("rtsp://me:sec/ret@camera/1", "rtsp://camera/1"),
        ("rtsp://me@camera/1", "rtsp://camera/1"),
        ("http://camera/video?token=secret&size=2", "http://camera/video?token=***&size=2"),
        ("rtsp://camera/user=me&password=secret&channel=1", "rtsp://camera/user=me&password=***&channel=1"),
        ("https://host/live/index.m3u8?Signature=secret", "https://host/live/index.m3u8?Signature=***"),
        ("http://h/x?token=abc/def==", "http://h/x?token=***"),
        ("http://h/x?user=me&pw=secret&camera=2", "http://h/x?user=me&pw=***&camera=2"),
        ("http://h/x?loginuse=me&loginpas=secret", "http://h/x?loginuse=me&loginpas=***"),
        ("rtsp://h/user=me&password=sec/ret&channel=1", "rtsp://h/user=me&password=***&channel=1"),
        ("no address", "no address"),
    ],
)
def test_no_credentials_are_shown(address: str, shown: str) -> None:
    assert without_credentials(address) == shown


@pytest.mark.parametrize(
    "text", ["rtsp:/me:secret@camera/1", "me:secret@camera/1", "rtsp//me:secret@camera", "rtsp:me:secret@c"]
)
def test_addresses_that_are_mistyped(text: str) -> None:
    with pytest.raises(SourceError, match="no such file or folder") as caught:
        open_source(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("rtsp://", "the address of a stream has no host, got rtsp://, expected rtsp://HOST"),
        ("rtsp:///x", "has no host, got rtsp:///x"),
        ("rtsp://me:secret@/x", "has no host, got rtsp:///x"),
        ("rtsp://:554/x", "has no host"),
        ("http://[]:80/x", "has no host"),
        ("https://?token=secret", "has no host"),
        ("rtsp://host:99999/x", "has an impossible port, got 99999, expected 1 to 65535"),
        ("rtsp://me:secret@host:0/x", "has an impossible port, got 0"),
        ("udp://:70000", "has an impossible port, got 70000"),
        ("rtsp://host:/x", "has an impossible port, expected"),
        ("rtsp://me:sec/secret@camera/1", "has an impossible port, expected .* write / as %2F"),
    ],
)
def test_addresses_that_lead_nowhere(address: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        open_source(address)
    assert "sec/" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "rtsp://camera",
        "rtsp://me:sec@ret:99999@[::1]:554/1",
        "http://camera:80?user=me@home:99999",
        "udp://:1234",
        "udp://@239.0.0.1:1234",
        "srt://:9000?mode=listener",
    ],
)
def test_addresses_that_lead_somewhere(address: str) -> None:
    check_place(address)


def test_without_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(
        MissingExtraError, match=r'reading rtsp://camera/1 needs .* pip install "yolotrt\[video\]"'
    ) as caught:
        open_source("rtsp://me:secret@camera/1")
    assert "secret" not in str(caught.value)


def test_webcams() -> None:
    assert [t for t in ("0", "12", "/dev/video1", "/dev/sda", "1a", "-1", "", "٣") if is_webcam(t)] == [
        "0",
        "12",
        "/dev/video1",
    ]

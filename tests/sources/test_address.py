from __future__ import annotations

import sys

import pytest

from yolotrt.errors import MissingExtraError, SourceError
from yolotrt.sources import open_source
from yolotrt.sources.address import is_webcam, without_credentials


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

"""Outputs are whole or absent."""

from __future__ import annotations

import hashlib
import resource
import signal
from pathlib import Path

import pytest

from yolotrt import files
from yolotrt.errors import SinkError


def test_success_replaces(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "out.txt"
    files.write_text(target, "one")
    files.write_text(target, "two")
    assert target.read_text() == "two"
    assert list(target.parent.iterdir()) == [target]
    assert target.stat().st_mode & 0o400


def test_the_rights_are_those_of_any_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plain.txt").touch()

    def refuse(mask: int) -> int:
        raise AssertionError("the umask belongs to the whole process: another thread would make files with it")

    monkeypatch.setattr("os.umask", refuse)
    files.write_text(tmp_path / "out.txt", "x")
    assert (tmp_path / "out.txt").stat().st_mode == (tmp_path / "plain.txt").stat().st_mode


def test_long_names(tmp_path: Path) -> None:
    target = tmp_path / f"{'long' * 62}.txt"  # 252 letters of the 255 that file systems take
    files.write_text(target, "x")
    assert list(tmp_path.iterdir()) == [target]


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    files.write_text(target, "old")

    def fail() -> None:
        with files.atomic_path(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_in_the_way_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="a file stands where a folder is needed"):
        files.write_text(tmp_path / "file" / "out.txt", "x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SinkError, match="cannot write"):
        files.write_text(tmp_path / "folder", "x")
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["file", "folder"]


def test_full_disk(tmp_path: Path) -> None:
    """A file-size limit stands in for a full disk: the write fails in the kernel just the same."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(SinkError, match="cannot write"):
            files.write_bytes(tmp_path / "out.bin", b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert list(tmp_path.iterdir()) == []


def test_digest(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert files.sha256_of(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_hash_of_a_large_file_is_that_of_its_whole(tmp_path: Path) -> None:
    data = bytes(range(256)) * 12_000
    (tmp_path / "large").write_bytes(data)
    assert files.sha256_of(tmp_path / "large") == hashlib.sha256(data).hexdigest()

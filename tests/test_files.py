"""Outputs are whole or absent."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
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


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    real, link = tmp_path / "real" / "out.txt", tmp_path / "link.txt"
    link.symlink_to("real/out.txt")
    for text in ("the file is not there yet", "it is"):
        files.write_text(link, text)
        assert real.read_text() == text
        assert link.is_symlink()
    assert list(real.parent.iterdir()) == [real]
    assert sorted(tmp_path.iterdir()) == [link, real.parent]


def test_a_pipe_gets_what_was_written(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as pool:
        read = pool.submit(pipe.read_text)
        files.write_text(pipe, "one\n" * 100_000)
        assert read.result(10) == "one\n" * 100_000
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_pipe_gets_nothing_of_a_failure(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def fail() -> None:
        with files.atomic_path(pipe) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # nobody reads: to open it would wait for ever
        fail()
    assert pipe.is_fifo()


def test_devices_stay(tmp_path: Path) -> None:
    reader, terminal = os.openpty()
    device = Path(os.ttyname(terminal))
    files.write_text(device, "whole")
    assert os.read(reader, 100) == b"whole"
    assert device.is_char_device()
    os.close(reader)
    os.close(terminal)


def test_standard_output_is_written_behind_what_was_printed(tmp_path: Path) -> None:
    code = "from pathlib import Path; from yolotrt import files\nprint('first')\n"
    code += "files.write_text(Path('/dev/stdout'), 'second\\n')\nprint('third')"
    environment = {**os.environ, "PYTHONPATH": str(Path(files.__file__).parents[1])}
    with (tmp_path / "out.txt").open("w") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, env=environment, check=True)
    assert (tmp_path / "out.txt").read_text() == "first\nsecond\nthird\n"
    piped = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=True)
    assert piped.stdout == b"first\nsecond\nthird\n"


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the names of sockets are short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(SinkError, match="cannot write socket: it is a disk or a socket"):
            files.write_text(Path("socket"), "x")
    assert (tmp_path / "socket").is_socket()


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

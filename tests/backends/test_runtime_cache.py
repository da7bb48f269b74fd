"""Where TensorRT-RTX's compiled kernels are kept. The content is TensorRT's own and opaque here."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from yolotrt.backends.flavours import Flavour, capabilities
from yolotrt.backends.runtime_cache import RuntimeCacheFile
from yolotrt.cuda.device import Device

GPU = Device(index=0, name="NVIDIA Test", compute_capability="9.0", memory_bytes=2**30)
RTX = Flavour(can=capabilities("tensorrt_rtx"), module_name="none", version="1.7.1")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RuntimeCacheFile:
    monkeypatch.setenv("YOLOTRT_CACHE", str(tmp_path / "cache"))
    return RuntimeCacheFile.of(memoryview(b"a plan"), RTX, GPU)


def test_what_is_written_is_read(file: RuntimeCacheFile) -> None:
    assert file.read() is None
    for content in (b"kernels", b"", b"more kernels"):
        file.write(content)
        assert file.read() == content


def test_every_plan_version_and_gpu_has_its_own(file: RuntimeCacheFile) -> None:
    others = [
        RuntimeCacheFile.of(memoryview(b"another"), RTX, GPU),
        RuntimeCacheFile.of(memoryview(b"a plan"), dataclasses.replace(RTX, version="1.6.1"), GPU),
        RuntimeCacheFile.of(memoryview(b"a plan"), RTX, dataclasses.replace(GPU, name="NVIDIA Other")),
    ]
    assert len({file.path, *(other.path for other in others)}) == 4
    # The number of the GPU is not what it is.
    assert RuntimeCacheFile.of(memoryview(b"a plan"), RTX, dataclasses.replace(GPU, index=1)) == file


@pytest.mark.parametrize("cut", [0, 10, 33])
def test_a_damaged_file_counts_as_none(file: RuntimeCacheFile, cut: int) -> None:
    file.write(b"kernels")
    file.path.write_bytes(file.path.read_bytes()[:cut])
    assert file.read() is None
    file.write(b"kernels")
    assert file.read() == b"kernels"


def test_a_folder_that_cannot_be_written(file: RuntimeCacheFile, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    file.write(b"kernels")
    assert file.read() is None


def test_several_writers(file: RuntimeCacheFile) -> None:
    contents = [bytes([i]) * 100_000 for i in range(8)]

    def write_and_read(content: bytes) -> bytes | None:
        file.write(content)
        return file.read()

    with ThreadPoolExecutor(4) as pool:
        reads = list(pool.map(write_and_read, contents))
    assert set(reads) <= set(contents)
    assert [p.name for p in file.path.parent.iterdir()] == [file.path.name]

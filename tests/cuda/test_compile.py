"""Kernels compile for every GPU that is supported, and are kept on disk. Needs the compiler, and no GPU."""

from __future__ import annotations

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from yolotrt.cuda import compile as compile_module
from yolotrt.cuda.compile import Architecture, cached_path, compile_source, compiled, compiler_version
from yolotrt.cuda.kernel_source import KernelSource
from yolotrt.decode.detect_cuda import CANDIDATES, NMS
from yolotrt.errors import CudaError, MissingExtraError
from yolotrt.preprocess.letterbox_cuda import SOURCE as LETTERBOX

SM_90 = Architecture("sm_90")
TINY = "KERNEL(nothing, int) { *(int *)0 = arguments; }"


def compiler_is_missing() -> bool:
    try:
        compile_module._nvrtc()
    except MissingExtraError:
        return True
    return False


needs_compiler = pytest.mark.skipif(compiler_is_missing(), reason="needs nvidia-cuda-nvrtc")


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KernelSource:
    monkeypatch.setenv("YOLOTRT_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "tiny.cu"
    path.write_text(f'#include "common.cuh"\n{TINY}\n')
    return KernelSource(path)


@needs_compiler
@pytest.mark.parametrize("capability", ["7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "12.0"])
@pytest.mark.parametrize("source", [LETTERBOX, CANDIDATES, NMS], ids=lambda s: str(s.path.stem))
def test_every_kernel_compiles(source: KernelSource, capability: str) -> None:
    architecture = Architecture.of(capability)
    assert architecture.name == f"sm_{capability.replace('.', '')}"
    code = compile_source(source, architecture)
    assert code.startswith(b"\x7fELF")
    names = re.findall(r"^KERNEL\((\w+),", source.texts[source.path.name], re.MULTILINE)
    assert len(names) >= 2
    assert all(name.encode() in code for name in names)


@needs_compiler
@pytest.mark.parametrize(
    ("capability", "name"),
    [("8.9", "sm_89"), ("12.9", "sm_121"), ("99.0", "compute_121")],
)
def test_gpus_that_the_compiler_does_not_know(capability: str, name: str) -> None:
    major = compile_module._known()[-1] // 10
    if capability != "8.9" and major != 12:
        pytest.skip("another compiler than the one this was written for")
    assert Architecture.of(capability).name == name


@needs_compiler
def test_the_compilers_version() -> None:
    assert compiler_version() >= (13, 0)


@needs_compiler
def test_a_gpu_that_is_too_old() -> None:
    with pytest.raises(CudaError, match=r"older than the CUDA compiler supports, got compute capability 3\.5"):
        Architecture.of("3.5")


@needs_compiler
def test_code_for_a_newer_gpu_is_left_to_the_driver(tiny: KernelSource) -> None:
    assert b".target sm_90" in compile_source(tiny, Architecture("compute_90"))


@needs_compiler
def test_the_compilers_log_is_in_the_error(tiny: KernelSource) -> None:
    tiny.path.write_text("KERNEL(broken, int) { this is no code; }")
    with pytest.raises(CudaError, match=r"tiny\.cu does not compile for sm_90: tiny\.cu\(1\).*error"):
        compile_source(tiny, SM_90)


@needs_compiler
def test_code_is_compiled_once(tiny: KernelSource, monkeypatch: pytest.MonkeyPatch) -> None:
    """And needs no compiler then."""
    first = compiled(tiny, "9.0")
    monkeypatch.setattr(compile_module, "_nvrtc", None)
    assert compiled(tiny, "9.0") == first
    assert cached_path(tiny, "9.0") != cached_path(tiny, "8.0")


@needs_compiler
@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 5000])
def test_a_damaged_file_is_made_again(tiny: KernelSource, damage: bytes) -> None:
    first = compiled(tiny, "9.0")
    path = cached_path(tiny, "9.0")
    whole = path.read_bytes()
    path.write_bytes(damage or whole[:-1])
    assert compiled(tiny, "9.0") == first
    assert path.read_bytes() == whole


@needs_compiler
def test_a_changed_header_is_other_code(tmp_path: Path, tiny: KernelSource) -> None:
    header = tmp_path / "own.cuh"
    header.write_text("// one")
    before = cached_path(KernelSource(tiny.path, (header,)), "9.0")
    header.write_text("// two")
    assert cached_path(KernelSource(tiny.path, (header,)), "9.0") != before


@needs_compiler
def test_a_cache_that_cannot_be_written(tiny: KernelSource, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert compiled(tiny, "9.0").startswith(b"\x7fELF")


@needs_compiler
def test_several_at_once(tiny: KernelSource) -> None:
    with ThreadPoolExecutor(4) as pool:
        codes = list(pool.map(lambda _: compiled(tiny, "9.0"), range(8)))
    assert set(codes) == {codes[0]}
    assert [p.name for p in cached_path(tiny, "9.0").parent.iterdir()] == [cached_path(tiny, "9.0").name]


def test_no_compiler(tiny: KernelSource, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_module._nvrtc.cache_clear()
    monkeypatch.setitem(sys.modules, "cuda.bindings.nvrtc", None)
    monkeypatch.delattr("cuda.bindings.nvrtc", raising=False)
    try:
        with pytest.raises(MissingExtraError, match=r"yolotrt\[gpu\]"):
            compiled(tiny, "9.0")
    finally:
        compile_module._nvrtc.cache_clear()

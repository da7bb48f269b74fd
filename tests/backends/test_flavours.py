from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from yolotrt.backends import flavours
from yolotrt.backends.flavours import FAMILY, Flavour, capabilities, for_target, installed, readers
from yolotrt.cuda.device import device_count
from yolotrt.errors import BackendError, MissingExtraError, UsageError


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of packages that comes first; what was imported from it is forgotten after."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("tensorrt_lean")]:
        del sys.modules[name]
    flavours._import.cache_clear()
    importlib.invalidate_caches()


def package(site: Path, name: str, code: str) -> None:
    (site / name).mkdir()
    (site / name / "__init__.py").write_text(code)
    importlib.invalidate_caches()


def test_installed_finds_tensorrt_rtx() -> None:
    found = {flavour.key: flavour for flavour in installed()}
    rtx = found["tensorrt_rtx"]
    assert rtx.problem is None
    assert rtx.module.__version__ == rtx.version
    assert rtx.title == f"TensorRT-RTX {rtx.version}"


def test_installed_imports_nothing() -> None:
    code = (
        "import sys; from yolotrt.backends.flavours import installed; assert installed(); "
        "assert not [m for m in sys.modules if m.startswith('tensorrt')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_broken_installation_gives_a_reason(site: Path) -> None:
    package(site, "tensorrt_lean_bindings", "raise ImportError('libnvinfer_lean.so.10:\\ncannot open')")
    lean = next(flavour for flavour in installed() if flavour.key == "tensorrt_lean")
    assert lean.version == "unknown"
    assert lean.problem == "ImportError: libnvinfer_lean.so.10: cannot open"
    with pytest.raises(BackendError, match=r"lean runtime unknown is installed but cannot be imported: ImportError"):
        _ = lean.module


def test_a_version_without_a_distribution_is_the_modules(site: Path) -> None:
    package(site, "tensorrt_lean", "__version__ = '10.99.0.1'")
    lean = next(flavour for flavour in installed() if flavour.key == "tensorrt_lean")
    assert (lean.version, lean.module_name) == ("10.99.0.1", "tensorrt_lean")


def test_a_folder_without_code_is_no_installation(site: Path) -> None:
    (site / "tensorrt_lean").mkdir()
    importlib.invalidate_caches()
    assert "tensorrt_lean" not in {flavour.key for flavour in installed()}


def test_targets() -> None:
    assert for_target("tensorrt-rtx").key == "tensorrt_rtx"
    if "tensorrt" not in {flavour.key for flavour in installed()}:
        assert for_target("auto").key == "tensorrt_rtx"
        with pytest.raises(MissingExtraError, match=r"yolotrt\[tensorrt\]") as caught:
            for_target("tensorrt")
        assert caught.value.extra == "tensorrt"
    with pytest.raises(UsageError, match=r"got openvino, expected auto \| tensorrt \| tensorrt-rtx"):
        for_target("openvino")


def test_without_any_tensorrt_auto_names_the_extra_that_works_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flavours, "_find", lambda can: None)
    assert installed() == []
    for target in ("auto", "tensorrt-rtx"):
        with pytest.raises(MissingExtraError, match=r"yolotrt\[rtx\]") as caught:
            for_target(target)
        assert caught.value.extra == "rtx"


@pytest.mark.skipif(device_count() > 0, reason="says what happens on a machine without a GPU")
def test_of_two_builders_auto_takes_the_one_that_builds_here(monkeypatch: pytest.MonkeyPatch) -> None:
    rtx = for_target("tensorrt-rtx")
    # A full TensorRT that imports: the same library under the other record.
    full = Flavour(can=capabilities("tensorrt"), module_name=rtx.module_name, version="10.16.1.11")
    monkeypatch.setattr(flavours, "_find", lambda can: {"tensorrt": full, "tensorrt_rtx": rtx}.get(can.key))
    assert for_target("auto") == rtx
    assert for_target("tensorrt") == full


def test_a_broken_one_is_not_taken_for_a_missing_one(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Flavour(can=capabilities("tensorrt"), module_name="tensorrt_lean_absent", version="10.16.1.11")
    monkeypatch.setattr(flavours, "_find", lambda can: broken if can.key == "tensorrt" else None)
    for target in ("auto", "tensorrt"):
        with pytest.raises(BackendError, match=r"TensorRT 10\.16\.1\.11 is installed but cannot be imported"):
            for_target(target)


def test_who_reads_which_plan() -> None:
    assert [can.key for can in readers(b"vtrt")] == ["tensorrt_rtx"]
    assert [can.key for can in readers(b"ftrt")] == ["tensorrt", "tensorrt_lean", "tensorrt_dispatch"]
    assert readers(b"\x7fELF") == []


def test_records_are_complete() -> None:
    assert len({can.key for can in FAMILY}) == len(FAMILY)
    for can in FAMILY:
        assert hash(can)
        assert can.gpu_options <= can.plan_options
        assert bool(can.extra) == can.can_build

"""The real Python bindings of several TensorRT versions, made importable without the library behind them.

Each wheel's `tensorrt.so` needs shared libraries that are large or not to be had. Stubs of the same names with the
same symbols, each of which aborts, are enough to import it and to ask it for its classes, members and signatures.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import yolotrt

PROBE = Path(__file__).with_name("probe.py")


@dataclass(frozen=True)
class Bindings:
    """One wheel: the flavour it belongs to, its distribution and version, and its import name."""

    flavour: str
    distribution: str
    version: str
    module: str

    def __str__(self) -> str:
        return f"{self.distribution}-{self.version}"


ALL = (
    Bindings("tensorrt", "tensorrt-cu13-bindings", "10.16.1.11", "tensorrt_bindings"),
    Bindings("tensorrt", "tensorrt-cu13-bindings", "11.4.0.106", "tensorrt_bindings"),
    Bindings("tensorrt_rtx", "tensorrt-rtx-cu13-bindings", "1.6.1.120", "tensorrt_rtx_bindings"),
    Bindings("tensorrt_rtx", "tensorrt-rtx-cu13-bindings", "1.7.1.116", "tensorrt_rtx_bindings"),
    Bindings("tensorrt_lean", "tensorrt-lean-cu13-bindings", "10.16.1.11", "tensorrt_lean_bindings"),
    Bindings("tensorrt_dispatch", "tensorrt-dispatch-cu13-bindings", "10.16.1.11", "tensorrt_dispatch_bindings"),
)


def probe(bindings: Bindings) -> dict[str, Any]:
    """What the bindings hold: see `probe.py`. Imported in a process of its own, once per machine."""

    def make(work: Path) -> None:
        unpack(bindings.distribution, bindings.version, work)
        make_stubs(next((work / bindings.module).glob("*.so")), work / "stubs", ("libnv", "libtensorrt"))

    return dict(json.loads(_import(bindings, prepared(str(bindings), make))))


def prepared(name: str, make: Callable[[Path], None]) -> Path:
    """A folder that `make` has filled, once per machine and version of Python."""
    folder = _cache() / f"{name}-py{sys.version_info.major}{sys.version_info.minor}"
    if not (folder / "complete").exists():
        _prepare(folder, make)
    return folder


def _cache() -> Path:
    chosen = os.environ.get("YOLOTRT_TEST_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "yolotrt-tests"


def _prepare(folder: Path, make: Callable[[Path], None]) -> None:
    missing = [tool for tool in ("gcc", "nm", "readelf") if shutil.which(tool) is None]
    if missing:
        pytest.fail(f"the conformance tests need {', '.join(missing)}: install gcc and binutils", pytrace=False)
    # Other workers may do the same: each works in a folder of its own, and the first to finish wins.
    work = folder.with_name(f"{folder.name}.{os.getpid()}")
    work.mkdir(parents=True)
    try:
        make(work)
        (work / "complete").touch()
        if not folder.exists():
            work.rename(folder)
    except OSError:
        if not (folder / "complete").exists():
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def unpack(distribution: str, version: str, work: Path) -> None:
    """Put the content of a wheel into a folder."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run(
        [*command, "--dest", str(work), f"{distribution}=={version}"],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.fail(
            f"{distribution} {version} cannot be downloaded: {done.stderr.strip().splitlines()[-1:]}", pytrace=False
        )
    wheel = next(work.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(work)
    wheel.unlink()


def make_stubs(library: Path, folder: Path, prefixes: tuple[str, ...]) -> None:
    """Libraries of the names that `library` needs and that begin so, with all symbols it lacks, each aborting."""
    folder.mkdir()
    undefined = subprocess.run(
        ["nm", "-D", "--undefined-only", str(library)], capture_output=True, text=True, check=True
    ).stdout
    names = [line.split()[-1] for line in undefined.splitlines()]
    # Versioned symbols are the C and C++ libraries', Py* the interpreter's.
    wanted = [n for n in names if "@" not in n and not n.startswith(("Py", "_Py", "__cxa", "__gmon", "_ITM"))]
    source = folder / "stubs.c"
    # Weak, so that the C library's own dlopen and pthread_once win where a wheel names them without a version.
    lines = [f"__attribute__((weak)) void {name}(void) {{ abort(); }}" for name in wanted]
    source.write_text("\n".join(["#include <stdlib.h>", *lines]) + "\n")
    dynamic = subprocess.run(["readelf", "-d", str(library)], capture_output=True, text=True, check=True).stdout
    needed = [line.split("[")[1].split("]")[0] for line in dynamic.splitlines() if "(NEEDED)" in line]
    for name in needed:
        if name.startswith(prefixes):
            subprocess.run(
                ["gcc", "-shared", "-fPIC", "-w", f"-Wl,-soname,{name}", "-o", str(folder / name), str(source)],
                check=True,
            )


def mypy(*paths: str) -> subprocess.CompletedProcess[str]:
    """What mypy says of files of the package, or beside it."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", *paths]
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(yolotrt.__file__).parents[1])


def _import(bindings: Bindings, folder: Path) -> str:
    env = {**os.environ, "LD_LIBRARY_PATH": str(folder / "stubs"), "PYTHONPATH": str(folder)}
    # An installed wheel of the real library would be loaded in place of the stubs.
    done = subprocess.run(
        [sys.executable, str(PROBE), bindings.module, bindings.version], capture_output=True, text=True, env=env
    )
    if done.returncode:
        pytest.fail(f"{bindings} cannot be imported: {done.stderr}", pytrace=False)
    return done.stdout

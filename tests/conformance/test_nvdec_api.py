"""Every name of PyNvVideoCodec that yolotrt uses exists, with these arguments, in the real wheel.

`yolotrt.sources.nvdec_api` writes down what is used. mypy holds the code to it, and this holds it to PyNvVideoCodec,
whose library is imported over a stub of the driver.
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import yolotrt
from tests.conformance import bindings
from tests.support import host_nvdec
from yolotrt.sources import nvdec_api

PACKAGE = Path(yolotrt.__file__).parent
PROBE = Path(__file__).with_name("probe_nvdec.py")
VERSIONS = ("2.0.0", "2.2.4")
FLAVOURS = ("121", "130")  # one library per generation of drivers
MODULE = nvdec_api.NvVideoCodec.__name__

pytestmark = pytest.mark.slow


def table() -> Iterator[tuple[str, str, Any]]:
    """(class, member, what the table says of it) for all that yolotrt uses."""
    for name, cls in vars(nvdec_api).items():
        if not inspect.isclass(cls) or cls.__module__ != nvdec_api.__name__ or name == "EnumMember":
            continue
        for member, annotation in cls.__annotations__.items():
            yield name, member, "enum" if annotation == "EnumMember" else "attribute"
        for member, value in vars(cls).items():
            if isinstance(value, property):
                yield name, member, "property"
            elif inspect.isfunction(value) and value.__qualname__ == f"{name}.{member}" and not member.startswith("_"):
                yield name, member, inspect.signature(value)


TABLE = list(table())


@cache
def probe(version: str, flavour: str) -> dict[str, Any]:
    """What the wheel's library for one generation of drivers holds: see `probe_nvdec.py`."""

    def make(work: Path) -> None:
        bindings.unpack("PyNvVideoCodec", version, work)
        # Every library is made for a driver of its own; the stub has what the newest asks for.
        [*_, newest] = sorted((work / "PyNvVideoCodec").glob("PyNvVideoCodec_*.so"))
        bindings.make_stubs(newest, work / "stubs", ("libcuda.so",))

    folder = bindings.prepared(f"PyNvVideoCodec-{version}", make)
    [library] = (folder / "PyNvVideoCodec").glob(f"PyNvVideoCodec_{flavour}*.so")
    env = {**os.environ, "LD_LIBRARY_PATH": str(folder / "stubs")}
    done = subprocess.run([sys.executable, str(PROBE), str(library)], capture_output=True, text=True, env=env)
    if done.returncode:
        pytest.fail(f"PyNvVideoCodec {version} cannot be imported: {done.stderr}", pytrace=False)
    return dict(json.loads(done.stdout))


every_library = pytest.mark.parametrize(("version", "flavour"), [(v, f) for v in VERSIONS for f in FLAVOURS])


def signatures(doc: str, name: str) -> Iterator[dict[str, bool]]:
    """The parameters of each overload and whether they may be left out, by pybind11's doc string."""
    for line in doc.splitlines():
        found = re.search(rf"\b{name}\((.*)\) -> ", line)
        if found is None or "*args" in found[1]:
            continue
        parameters = re.findall(r"(\w+): ((?:[^,<\[]|<[^>]*>|\[[^\]]*\])*)", found[1])
        yield {parameter: " = " in rest for parameter, rest in parameters if parameter != "self"}


@every_library
def test_every_name_exists_and_is_what_the_table_says(version: str, flavour: str) -> None:
    api = probe(version, flavour)["api"]
    wrong = []
    for cls, member, said in TABLE:
        if cls == MODULE and said == "attribute":
            if member not in api:
                wrong.append((cls, member, "missing"))
            continue
        real = api.get("module" if cls == MODULE else cls, {}).get(member)
        if real is None:
            wrong.append((cls, member, "missing"))
        elif isinstance(said, inspect.Signature):
            if real["kind"] != "method" or not any(_accepts(o, said) for o in signatures(real["doc"], member)):
                wrong.append((cls, member, f"{said} against {real['doc']}"))
        elif said == "attribute":
            if not (real["kind"] == "property" and real["settable"]):
                wrong.append((cls, member, real))
        elif real["kind"] != said:
            wrong.append((cls, member, real))
    assert not wrong
    assert len(TABLE) >= 25


def _accepts(overload: dict[str, bool], ours: inspect.Signature) -> bool:
    """Whether a call with the table's arguments fits this overload."""
    names = [name for name in ours.parameters if name != "self"]
    required = {name for name, optional in overload.items() if not optional}
    return set(names) <= set(overload) and required <= set(names)


@every_library
def test_packets_and_planes_hold_what_is_put_there(version: str, flavour: str) -> None:
    found = probe(version, flavour)
    assert found["packet"] == {"bsl_data": 2**47 - 1, "bsl": 123, "pts": -(2**40), "decode_flag": 8}
    assert found["plane"] == {"dataptr": 4096, "shape": [4, 6, 1], "stride": [8, 1, 1]}


@every_library
def test_the_names_of_capabilities_are_in_the_library(version: str, flavour: str) -> None:
    probe(version, flavour)
    folder = bindings.prepared(f"PyNvVideoCodec-{version}", lambda _: None)
    [library] = (folder / "PyNvVideoCodec").glob(f"PyNvVideoCodec_{flavour}*.so")
    content = library.read_bytes()
    for name in nvdec_api.CAPS:
        assert name.encode() + b"\0" in content, name


@every_library
def test_the_one_of_the_tests_has_the_real_numbers(version: str, flavour: str) -> None:
    api = probe(version, flavour)["api"]
    fake = host_nvdec.HostNvdec()
    for name in ("cudaVideoCodec", "Pixel_Format", "DisplayDecodeLatencyType", "VideoPacketFlag"):
        for member in getattr(fake, name):
            if member.name in api[name]:
                assert int(member) == api[name][member.name]["value"], (name, member)


def test_the_code_uses_no_name_that_the_table_lacks(tmp_path: Path) -> None:
    users = sorted(str(path) for path in PACKAGE.rglob("*.py") if "nvdec_api" in path.read_text())
    assert len(users) >= 2
    clean = bindings.mypy(*users)
    assert clean.returncode == 0, clean.stdout
    stray = tmp_path / "stray.py"
    stray.write_text(
        "from yolotrt.sources.nvdec import load_api\n"
        "api = load_api()\n"
        "api.SimpleDecoder\n"
        "api.cudaVideoCodec.VP9\n"
        "api.PacketData().seek_pts = 3\n"
        "api.GetDecoderCaps(gpuid=1, codec=api.cudaVideoCodec.H264, bitdepth=8)\n"
    )
    refused = bindings.mypy(str(stray)).stdout
    for name in ("SimpleDecoder", "VP9", "seek_pts", "bitdepth"):
        assert f'"{name}"' in refused, refused


def test_pynvvideocodec_is_reached_only_through_its_typed_module() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith("PyNvVideoCodec") for alias in node.names), path
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("PyNvVideoCodec"), path
            # The one name that is looked up by a string is a codec, and these are in the table.
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "cast"):
                assert "nvdec_api" not in path.read_text() or path.name == "nvdec.py", path


def test_codecs_are_in_the_table() -> None:
    from yolotrt.sources.nvdec import CODECS

    assert {("cudaVideoCodec", name, "enum") for name in CODECS.values()} <= set(TABLE)

"""Every name of TensorRT that yolotrt uses exists, with these arguments, in the real bindings.

`yolotrt.backends.tensorrt_api` writes down what is used. mypy holds the code to it, and this holds it to TensorRT.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import yolotrt
from tests.conformance import bindings
from yolotrt.backends import tensorrt_api
from yolotrt.backends.flavours import FAMILY, capabilities
from yolotrt.backends.tensorrt_engine import DTYPES

PACKAGE = Path(yolotrt.__file__).parent
ENUMS = {
    "Severity",
    "BuilderFlag",
    "NetworkDefinitionCreationFlag",
    "HardwareCompatibilityLevel",
    "MemoryPoolType",
    "EngineStat",
    "TensorIOMode",
    "ComputeCapability",
    "EngineInvalidityDiagnostics",
    "LayerInformationFormat",
    "ExecutionContextAllocationStrategy",
    "DynamicShapesKernelSpecializationStrategy",
    "ProfilingVerbosity",
}
# How TensorRT names what has another name or place in the table.
REAL_NAMES = {"Severity": "ILogger.Severity"}

pytestmark = pytest.mark.slow


def table() -> Iterator[tuple[str, str, Any]]:
    """(class, member, what the table says of it) for all that yolotrt uses."""
    for name, cls in vars(tensorrt_api).items():
        if name.startswith("_") or not inspect.isclass(cls) or not getattr(cls, "_is_protocol", False):
            continue
        if cls.__module__ != tensorrt_api.__name__ or name in ("TensorRT", "EnumMember"):
            continue
        for member in cls.__annotations__:
            yield name, member, "attribute"
        for member, value in vars(cls).items():
            if isinstance(value, property):
                yield name, member, "property"
            # `typing.Protocol` puts an __init__ of its own into classes that have none.
            elif inspect.isfunction(value) and value.__qualname__ == f"{name}.{member}" and _is_public(member):
                yield name, member, inspect.signature(value)


def _is_public(member: str) -> bool:
    return member == "__init__" or not member.startswith("_")


TABLE = list(table())


@cache
def api(of: bindings.Bindings) -> dict[str, Any]:
    return bindings.probe(of)


def has(of: bindings.Bindings, cls: str, member: str) -> bool:
    return member in api(of).get(REAL_NAMES.get(cls, cls), {})


def needed(of: bindings.Bindings, cls: str, member: str) -> bool:
    only = tensorrt_api.ONLY
    return of.flavour in only.get(f"{cls}.{member}", only.get(cls, tensorrt_api.ALL))


every_binding = pytest.mark.parametrize("of", bindings.ALL, ids=str)


@every_binding
def test_every_member_exists_where_it_is_needed(of: bindings.Bindings) -> None:
    missing = [f"{cls}.{member}" for cls, member, _ in TABLE if needed(of, cls, member) and not has(of, cls, member)]
    assert not missing


@every_binding
def test_members_are_of_the_kind_the_table_says(of: bindings.Bindings) -> None:
    wrong = []
    for cls, member, said in TABLE:
        if not needed(of, cls, member):
            continue
        real = api(of)[REAL_NAMES.get(cls, cls)][member]
        if member == "__members__" or (cls, member) == ("ILogger", "Severity"):
            continue
        if cls in ENUMS:
            fits = real["kind"] == "enum"
        elif said == "attribute":
            fits = real["kind"] == "property" and real["settable"]
        elif said == "property":
            fits = real["kind"] == "property"
        else:
            fits = real["kind"] == "method" and any(_accepts(o, said) for o in real["signatures"])
        if not fits:
            wrong.append((cls, member, str(said), real))
    assert not wrong


def _accepts(overload: list[dict[str, Any]], ours: inspect.Signature) -> bool:
    """Whether a call with the table's arguments, by position or by name, fits this overload."""
    names = [name for name in ours.parameters if name != "self"]
    real = [parameter["name"] for parameter in overload]
    return real[: len(names)] == names and all(parameter["optional"] for parameter in overload[len(names) :])


@every_binding
def test_capabilities_tell_what_a_flavour_has(of: bindings.Bindings) -> None:
    can = capabilities(of.flavour)
    assert can.can_build == has(of, "Builder", "__init__")
    assert can.refits_from_onnx == has(of, "OnnxParserRefitter", "__init__")
    assert can.compiles_when_loaded == has(of, "IRuntimeConfig", "create_runtime_cache")
    assert can.explains_invalid_plans == has(of, "Runtime", "get_engine_validity")
    assert ("compute_capability" in can.plan_options) == has(of, "ComputeCapability", "__members__")


@every_binding
def test_dtypes_are_told_by_names_that_exist(of: bindings.Bindings) -> None:
    assert set(DTYPES) <= set(api(of)["DataType"])


def test_only_names_what_the_table_holds() -> None:
    known = {cls for cls, _, _ in TABLE} | {f"{cls}.{member}" for cls, member, _ in TABLE}
    assert set(tensorrt_api.ONLY) <= known
    assert {can.key for can in FAMILY} == tensorrt_api.ALL
    assert {can.key for can in FAMILY if can.can_build} == tensorrt_api.BUILDERS


def test_the_module_type_names_only_classes_of_the_table() -> None:
    hints = get_type_hints(tensorrt_api.TensorRT)
    assert set(hints) - {"__version__"} <= {cls for cls, _, _ in TABLE}


def test_the_code_uses_no_name_that_the_table_lacks(tmp_path: Path) -> None:
    users = sorted(str(path) for path in PACKAGE.rglob("*.py") if "tensorrt_api" in path.read_text())
    assert len(users) >= 4
    clean = bindings.mypy(*users)
    assert clean.returncode == 0, clean.stdout
    stray = tmp_path / "stray.py"
    stray.write_text(
        "from yolotrt.backends.flavours import for_target\n"
        'trt = for_target("auto").module\n'
        "trt.IPluginV3\n"
        "trt.BuilderFlag.TF32\n"
        "trt.Builder(trt.ILogger()).create_builder_config().max_aux_streams\n"
        "trt.Builder(trt.ILogger()).create_network(flags=1, more=2)\n"
    )
    refused = bindings.mypy(str(stray)).stdout
    for name in ("IPluginV3", "TF32", "max_aux_streams", "more"):
        assert f'"{name}"' in refused


def test_tensorrt_is_reached_only_through_its_typed_module() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith("tensorrt") for alias in node.names), path
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("tensorrt"), path
            # The one member that the table leaves untyped is a base class, used in one place.
            if isinstance(node, ast.Attribute) and node.attr == "ILogger":
                assert path.name == "tensorrt_log.py", path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "cast"):
                assert "tensorrt_api" not in path.read_text() or path.name == "flavours.py", path

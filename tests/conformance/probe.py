"""Print, as JSON, what a TensorRT module holds: `{class: {member: {"kind", "settable", "signatures"}}}`.

Run as a program by `bindings.py`, with the module's name and the version it must have.
"""

from __future__ import annotations

import importlib
import json
import sys
from types import ModuleType
from typing import Any


def main() -> None:
    name, version = sys.argv[1:]
    # The wheel of the real library, where it is installed, would replace the stubs.
    sys.modules[name.replace("_bindings", "_libs")] = ModuleType("stub")
    module = importlib.import_module(name)
    assert module.__version__ == version, f"got {module.__version__}, expected {version}"
    classes = {key: value for key, value in vars(module).items() if isinstance(value, type)}
    classes["ILogger.Severity"] = module.ILogger.Severity
    print(json.dumps({key: {n: _describe(value, n) for n in dir(value)} for key, value in classes.items()}))


def _describe(cls: Any, name: str) -> dict[str, Any]:
    member = getattr(cls, name)
    if name in getattr(cls, "__members__", {}):
        return {"kind": "enum"} if isinstance(member.name, str) and int(member) >= 0 else {"kind": "attribute"}
    if isinstance(member, property):
        return {"kind": "property", "settable": member.fset is not None}
    if callable(member):
        return {"kind": "method", "signatures": _signatures(name, member.__doc__ or "")}
    return {"kind": "attribute"}


def _signatures(name: str, doc: str) -> list[list[dict[str, Any]]]:
    """The parameters of each overload, by pybind11's doc string: `name(self: X, a: int, b: str = None) -> Y`."""
    found = []
    for line in doc.splitlines():
        start = line.find(f"{name}(")
        if start < 0 or ") -> " not in line or "*args" in line:
            continue
        parameters = _split(line[start + len(name) + 1 : line.rindex(") -> ")])
        found.append(
            [
                {"name": text.split(":")[0].strip(), "optional": " = " in text}
                for text in parameters
                if text.split(":")[0].strip() != "self"
            ]
        )
    return found


def _split(text: str) -> list[str]:
    parts, depth, current = [], 0, ""
    for character in text:
        depth += (character in "[(<") - (character in "])>")
        if character == "," and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += character
    return [*parts, current] if current.strip() else parts


if __name__ == "__main__":
    main()

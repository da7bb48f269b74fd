"""Print, as JSON, what PyNvVideoCodec holds, and how its packets and planes behave, which need no GPU.

Run as a program by `test_nvdec_api.py`, with the path of the library in the wheel.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from typing import Any


def main() -> None:
    spec = importlib.util.spec_from_file_location("_PyNvVideoCodec", sys.argv[1])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[str, dict[str, Any]] = {"module": {}}
    for name, value in vars(module).items():
        if isinstance(value, type):
            found[name] = {member: _describe(value, member) for member in dir(value)}
        elif callable(value):
            found["module"][name] = {"kind": "method", "doc": value.__doc__}
    print(json.dumps({"api": found, "packet": _packet(module), "plane": _plane(module)}))


def _describe(cls: Any, name: str) -> dict[str, Any]:
    member = getattr(cls, name)
    if name in getattr(cls, "__members__", {}):
        return {"kind": "enum", "value": int(member)}
    if isinstance(member, property):
        return {"kind": "property", "settable": member.fset is not None}
    return {"kind": "method" if callable(member) else "attribute", "doc": member.__doc__}


def _packet(module: Any) -> dict[str, int]:
    packet = module.PacketData()
    packet.bsl_data, packet.bsl, packet.pts = 2**47 - 1, 123, -(2**40)
    packet.decode_flag = int(module.VideoPacketFlag.ENDOFPICTURE)
    return {name: getattr(packet, name) for name in ("bsl_data", "bsl", "pts", "decode_flag")}


def _plane(module: Any) -> dict[str, Any]:
    """A plane of 6 x 4 pixels whose rows lie 8 bytes apart."""
    plane = module.CAIMemoryView([4, 6, 1], [8, 1, 1], "|u1", 7, 4096, False)  # noqa: FBT003 (it takes no names)
    return {name: getattr(plane, name) for name in ("dataptr", "shape", "stride")}


if __name__ == "__main__":
    main()

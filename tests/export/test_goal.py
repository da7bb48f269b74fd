"""What is decided before an export begins, where it hangs on which TensorRT is installed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from yolotrt.backends.flavours import Flavour, capabilities
from yolotrt.errors import UnsupportedOptionError
from yolotrt.export import goal
from yolotrt.export.source import Source
from yolotrt.options import ExportOptions, PrecisionChoice

SOURCE = Source(path=Path("m.pt"), kind="pt", sha256="")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[Flavour]:
    """The TensorRT-RTX that is taken for installed."""
    found: list[Flavour] = []
    monkeypatch.setattr(goal, "_flavour", lambda _options: (found[0], ""))
    return found


def choose(installed: list[Flavour], version: str, precision: PrecisionChoice) -> goal.Goal:
    installed[:] = [Flavour(can=capabilities("tensorrt_rtx"), module_name="tensorrt_rtx", version=version)]
    return goal.choose_goal(ExportOptions(precision=precision, calib=Path("pictures")), SOURCE, None)


@pytest.mark.parametrize(
    ("version", "kinds"),
    [("1.4.0.76", ()), ("1.5.0.1", ("fp8",)), ("1.6.1.120", ("fp8",)), ("1.7.1.116", ("fp8", "int8")),
     ("2.0.0.1", ("fp8", "int8"))],
)  # fmt: skip
def test_auto_tries_what_can_be_built(installed: list[Flavour], version: str, kinds: tuple[str, ...]) -> None:
    found = choose(installed, version, "auto")
    assert found.kinds == kinds
    assert [text.split()[0] for text in found.untried] == [k for k in ("FP8", "INT8") if k.lower() not in kinds]


def test_what_cannot_be_built_is_refused_by_name(installed: list[Flavour]) -> None:
    with pytest.raises(UnsupportedOptionError, match=r"1\.6\.1\.120 builds no INT8 convolutions, 1\.7 and"):
        choose(installed, "1.6.1.120", "int8")
    assert choose(installed, "1.7.1.116", "int8").kinds == ("int8",)
    tensorrt = dataclasses.replace(installed[0], can=capabilities("tensorrt"), version="10.14.1")
    assert not tensorrt.lacks_precision("int8")

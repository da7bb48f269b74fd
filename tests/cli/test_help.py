"""Every command explains itself, and a wrong call is one line with exit code 2."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import click
import pytest

from yolotrt.cli import cli, main

COMMANDS = cli.list_commands(click.Context(cli))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "yolotrt", *arguments], capture_output=True, text=True, timeout=60)


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help(name: str) -> None:
    found = command(name)
    assert found.help
    options = [p for p in found.params if isinstance(p, click.Option) and not p.hidden]
    assert not [option.name for option in options if not option.help]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_argument_is_named_in_the_help(name: str) -> None:
    found = command(name)
    for argument in [p for p in found.params if isinstance(p, click.Argument)]:
        assert argument.make_metavar(click.Context(found)).strip("[].") in (found.help or "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_prints_json_on_demand(name: str) -> None:
    assert any("--json" in p.opts for p in command(name).params)


def test_the_command_line_runs_in_any_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["yolotrt", "--version"])
    codes: list[object] = []

    def call() -> None:
        try:
            main()
        except BaseException as e:  # noqa: BLE001 (looked at below)
            codes.append(getattr(e, "code", e))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert codes == [0]


def test_help_lists_the_commands() -> None:
    result = run("--help")
    assert result.returncode == 0
    assert all(f"  {name} " in result.stdout for name in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["dettect"], "No such command 'dettect'. (Did you mean 'detect'?)"),
        (["paint"], "paint"),
        (["inspect"], "FILE"),
        (["inspect", "--nope"], "--nope"),
        (["doctor", "surplus"], "surplus"),
        (["inspect", ""], "Invalid value for 'FILE': it is empty"),
        (["bench", "m.onnx", "--image", "a.jpg", "--image", ""], "'--image': it is empty"),
        (["export", "m.onnx", "--output", ""], "'--output': it is empty"),
        (["profile", "m.onnx", "--trace="], "'--trace': it is empty"),
        (["val", "--model", "", "--data", "d"], "'--model': it is empty"),
        (["verify", "a.onnx", "b.onnx", "--worst", ""], "'--worst': it is empty"),
        *(
            (["detect", "a.jpg", option, ""], f"'{option}': it is empty, as an unset shell variable is")
            for option in ("--save", "--jsonl", "--coco", "--coco-like", "--crops", "--model", "--config")
        ),
    ],
)
def test_a_wrong_call_is_one_line(arguments: list[str], named: str) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Error: ")
    assert named in lines[0]
    assert "Try: yolotrt" in lines[0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["--help"], ["doctor", "--json"]])
def test_a_full_disk_behind_standard_output_is_one_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "yolotrt", *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert result.returncode == 1
    assert result.stderr == "Error: cannot write to standard output: No space left on device\n"

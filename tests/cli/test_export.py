"""`yolotrt export` as a user calls it: exit codes, one-line errors, JSON, YAML, interruption, full disks."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.weights import save_weights, write_pictures
from yolotrt.cli import export_config
from yolotrt.cli.export import command
from yolotrt.errors import ConfigError, UsageError
from yolotrt.model_spec import BatchRange
from yolotrt.options import ExportOptions, PlanOptions

EXAMPLE = Path(__file__).parents[2] / "configs" / "export.yaml"
NONE: dict[str, None] = {}


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_weights(tmp_path_factory.mktemp("model") / "mine.pt", "yolov8n")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), 2)


def start(folder: Path, *arguments: object, limit: int | None = None) -> subprocess.Popen[str]:
    """The command line in its own process; `limit` is the size in bytes that no file may grow beyond."""

    def restrict() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.Popen(
        [sys.executable, "-m", "yolotrt", "export", *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=restrict,  # noqa: PLW1509 - this process has no threads of its own
    )


def run(folder: Path, *arguments: object, limit: int | None = None) -> tuple[int, str, str]:
    """(exit code, standard output, standard error)."""
    process = start(folder, *arguments, limit=limit)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def one_line(err: str) -> str:
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    return lines[0]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def small(model: Path, pictures: Path) -> list[object]:
    return [model, "--imgsz", 64, "--images", pictures, "--target", "onnx"]


def test_the_default_folder_and_each_stage_with_its_time(model: Path, pictures: Path, tmp_path: Path) -> None:
    code, out, err = run(tmp_path, *small(model, pictures))
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[:7]] == [
        "load", "onnx", "checker", "onnxsim", "comparison", "precision", "plan",
    ]  # fmt: skip
    assert " s  " in lines[0]
    assert lines[-1] == "Run it: yolotrt detect --model mine-fp32/mine-fp32.json PICTURE"
    assert sorted(contents(tmp_path)) == ["mine-fp32/mine-fp32.json", "mine-fp32/mine-fp32.onnx"]
    code, out, _ = run(tmp_path, *small(model, pictures))
    assert code == 0
    assert "Nothing to do, unchanged: mine-fp32/mine-fp32.onnx" in out


def test_the_command_to_run_it_can_be_pasted(model: Path, pictures: Path, tmp_path: Path) -> None:
    code, out, err = run(tmp_path, *small(model, pictures), "--output", "bü ndle")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "Run it: yolotrt detect --model 'bü ndle/mine-fp32.json' PICTURE"


def test_json_is_one_object_and_nothing_else(model: Path, pictures: Path, tmp_path: Path) -> None:
    code, out, err = run(tmp_path, *small(model, pictures), "--fp16", "--json", "--output", "there")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["precision"], found["imgsz"], found["plan"]) == ("fp16", [64, 64], None)
    assert (tmp_path / found["onnx"]).is_file()
    assert found["onnx"] == "there/mine-fp16.onnx"
    assert [s["state"] for s in found["stages"]] == ["done"] * 6 + ["skipped"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none.pt"], 1, "none.pt: no such file"),
        (["."], 1, "a folder, not a model"),
        (["MODEL", "--imgsz", "100"], 2, "must be a multiple of the model's stride 32, got 100. The nearest is 96."),
        (["MODEL", "--images", "nowhere"], 1, "no pictures at nowhere"),
        (["MODEL", "--output", "/proc/nothing"], 1, "cannot write /proc/nothing"),
        (["MODEL", "--names", "a,b"], 2, "got 2 names, expected 5 classes"),
    ],
)
def test_bad_input_is_one_clear_line(
    model: Path, pictures: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    given = [str(model) if a == "MODEL" else a for a in arguments]
    defaults: list[object] = [] if "--images" in given else ["--images", pictures]
    found, out, err = run(tmp_path, *given, *defaults, "--target", "onnx")
    assert found == code, err
    assert message in one_line(err)
    assert "Made" not in out
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--int8"], UsageError, "precision int8 needs pictures to calibrate on"),
        (["--fp8"], UsageError, "precision fp8 needs pictures to calibrate on"),
        (["--precision", "auto"], UsageError, "precision auto needs pictures to calibrate on"),
        (["--int8", "--fp8"], UsageError, "--fp8 and --int8 contradict"),
        (["--int8", "--precision", "fp8"], UsageError, "--int8 and --precision fp8 contradict"),
        (["--max-drop", "0.01"], UsageError, "option max_drop is a limit for an accuracy that is not measured"),
        (["--max-drop", "1.5", "--int8"], UsageError, "option max_drop is out of range"),
        (["--calib-pictures", "0", "--int8"], UsageError, "option calib_pictures is out of range"),
        (["--calib", "FOLDER"], UsageError, "option calib has no use with precision fp32"),
        (["--data", "d.yaml", "--precision", "fp32"], UsageError, "option data has no use with precision fp32"),
        (["--precision", "fp64"], UsageError, "option precision is unknown"),
        (["--fp16", "--precision", "fp32"], UsageError, "contradict"),
        (["--target", "trt"], UsageError, "option target is unknown"),
        (["--imgsz", "big"], UsageError, "option imgsz is no size"),
        (["--imgsz", "1x2x3"], UsageError, "option imgsz is no size"),
        (["--batch", "0"], UsageError, "option batch is out of range"),
        (["--batch", "1,2,3"], UsageError, "Use --batch-range"),
        (["--batch-range", "4"], UsageError, "MIN,OPT,MAX"),
        (["--batch-range", "4,2,1"], UsageError, "out of range"),
        (["--batch", "1", "--batch-range", "1,2,3"], UsageError, "contradict"),
        (["--opt-level", "high"], UsageError, "not a whole number"),
        (["--compute-capability", "ampere"], UsageError, "compute capabilities"),
        (["--names", "a,,b"], UsageError, "an empty name"),
        (["--names", "none.txt"], UsageError, "none.txt: no class names can be read from it: No such file"),
        (["--names", "FOLDER/broken.yaml"], UsageError, "broken.yaml: not valid YAML"),
        (["--names", "FOLDER/other.yaml"], UsageError, "other.yaml: no class names can be read from it, expected"),
        (["--names", "FOLDER/binary"], UsageError, "binary: no class names can be read from it: not a text file"),
        (["--imgsz", "9999999968"], UsageError, "option imgsz is out of range"),
        (["--opset", "-3"], UsageError, "no ONNX operator set"),
        (["--config", "none.yaml"], ConfigError, "cannot read the configuration"),
        (["--workspace", "64"], UsageError, "options of the plan were given"),
    ],
)
def test_a_wrong_call(
    model: Path, tmp_path: Path, arguments: Sequence[str], error: type[UsageError], message: str
) -> None:
    (tmp_path / "broken.yaml").write_text("names: [a")
    (tmp_path / "other.yaml").write_text("colours: 3")
    (tmp_path / "binary").write_bytes(b"\xff\x00" * 5000)
    arguments = [a.replace("FOLDER", str(tmp_path)) for a in arguments]
    call = [str(model), *arguments] if "--target" in arguments else [str(model), "--target", "onnx", *arguments]
    found = CliRunner().invoke(command, call)
    assert isinstance(found.exception, error), found.exception
    assert message in str(found.exception)
    assert found.exception.exit_code == 2


def test_the_example_holds_every_option_with_its_default() -> None:
    import yaml

    assert export_config.load(EXAMPLE, NONE, NONE) == ExportOptions()
    data = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    assert set(data) == set(ExportOptions.__dataclass_fields__)
    assert set(data["plan"]) == set(PlanOptions.__dataclass_fields__)


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    (tmp_path / "names.txt").write_text("one\ntwo\n")
    config.write_text(
        f"imgsz: [64, 96]\nbatch: [1, 2, 4]\nnames: {tmp_path / 'names.txt'}\ntarget: onnx\n"
        "plan: {workspace_mib: 64, compute_capability: [8.6]}\n"
    )
    found = export_config.load(config, {"imgsz": "128", "target": None}, {"workspace_mib": "32"})
    assert (found.imgsz, found.target, found.names) == ((128, 128), "onnx", ("one", "two"))
    assert found.batch == BatchRange(min=1, opt=2, max=4)
    assert found.plan == PlanOptions(workspace_mib=32, compute_capability=("8.6",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("imgzs: 640", "unknown key 'imgzs'.* Did you mean 'imgsz'"),
        ("plan: {workspac: 1}", "unknown key 'workspac'.* Did you mean 'workspace_mib'"),
        ("plan: 3", "key 'plan' is not a mapping"),
        ("imgsz: wide", "option imgsz is no size"),
        ("trust: maybe", "option trust is not true or false"),
        ("target: [1]", "option target is not text"),
        ("output: ''", "option output is empty"),
        ("max_drop: little", "option max_drop is not a number"),
        ("- 1", "not a mapping"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_bad_file(tmp_path: Path, text: str, message: str) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(text)
    with pytest.raises(ConfigError, match=message):
        export_config.load(config, NONE, NONE)


def test_a_precision_and_its_pictures_in_a_file(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("precision: INT8\ndata: d.yaml\ncalib: clips/a.mp4\ncalib_pictures: 96\nmax_drop: 0.01")
    found = export_config.load(config, {"calib_few": True}, NONE)
    assert (found.precision, found.data, found.calib) == ("int8", Path("d.yaml"), Path("clips/a.mp4"))
    assert (found.calib_pictures, found.calib_few, found.max_drop) == (96, True, 0.01)


def test_names_of_a_data_set(tmp_path: Path) -> None:
    data = tmp_path / "data.yaml"
    data.write_text("path: x\nnames: {1: b, 0: a}\n")
    assert export_config.load(None, {"names": str(data)}, NONE).names == ("a", "b")
    data.write_text("- a\n- b\n")
    assert export_config.load(None, {"names": str(data)}, NONE).names == ("a", "b")
    for content, message in (
        ("path: x\n", "no class names can be read"),
        (f"names: {data}\n", "no class names can be read"),
        ("names: [a, {\n", "not valid YAML"),
    ):
        data.write_text(content)
        with pytest.raises(UsageError, match=message):
            export_config.load(None, {"names": str(data)}, NONE)


def test_more_names_than_a_path_has_letters() -> None:
    names = tuple(f"class number {i}" for i in range(400))
    assert export_config.load(None, {"names": ",".join(names)}, NONE).names == names


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_export_leaves_the_older_bundle(
    model: Path, pictures: Path, tmp_path: Path, kind: signal.Signals
) -> None:
    assert run(tmp_path, *small(model, pictures))[0] == 0
    before = contents(tmp_path)
    process = start(tmp_path, *small(model, pictures), "--force")
    wait_for(lambda: any(tmp_path.glob("mine-fp32/.*.part-*")), process)
    process.send_signal(kind)
    _, err = process.communicate(timeout=60)
    assert contents(tmp_path) == before
    if kind == signal.SIGKILL:
        assert process.returncode == -9
    else:
        # An interrupt that reaches C code which itself runs Python (PyTorch's import does) makes CPython end by SIGINT
        # after all is done: 130 to a shell as well.
        assert process.returncode in (130, -signal.SIGINT)
        assert one_line(err) == "Interrupted."
        assert not any(tmp_path.glob("mine-fp32/.*"))
    # The next one works, and tidies up after the killed one.
    assert run(tmp_path, *small(model, pictures), "--force")[0] == 0
    assert not any(tmp_path.glob("mine-fp32/.*"))


def wait_for(condition: object, process: subprocess.Popen[str]) -> None:
    assert callable(condition)
    end = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_first_export_that_is_killed_leaves_no_bundle(model: Path, pictures: Path, tmp_path: Path) -> None:
    process = start(tmp_path, *small(model, pictures))
    wait_for(lambda: any(tmp_path.glob("mine-fp32/.*.part-*")), process)
    process.terminate()
    process.communicate(timeout=60)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("has_older", [False, True])
def test_a_full_disk(model: Path, pictures: Path, tmp_path: Path, has_older: bool) -> None:
    if has_older:
        assert run(tmp_path, *small(model, pictures))[0] == 0
    before = contents(tmp_path)
    code, _, err = run(tmp_path, *small(model, pictures), "--force", limit=1_000_000)
    assert code == 1
    assert "cannot write" in one_line(err)
    assert contents(tmp_path) == before
    assert not any(tmp_path.glob("**/.*"))


def test_an_operator_set_that_pytorch_lacks(model: Path, pictures: Path, tmp_path: Path) -> None:
    code, out, err = run(tmp_path, *small(model, pictures), "--opset", 99, "--json")
    assert (code, out) == (1, ""), "PyTorch writes its whole graph there"
    assert "Unsupported onnx_opset_version: 99" in one_line(err)


def test_a_batch_that_no_memory_holds(model: Path, pictures: Path, tmp_path: Path) -> None:
    code, _, err = run(tmp_path, *small(model, pictures), "--batch", 10**12)
    assert code == 1
    assert "Use a smaller --imgsz or --batch." in one_line(err)


def test_untrusted_weights_name_the_flag(tmp_path: Path, pictures: Path) -> None:
    class_file = tmp_path / "extra_module_of_mine.py"
    class_file.write_text("class Thing:\n    pass\n")
    sys.path.insert(0, str(tmp_path))
    try:
        import extra_module_of_mine  # type: ignore[import-not-found]

        path = save_weights(tmp_path / "odd.pt", "yolov8n", extra=extra_module_of_mine.Thing())
    finally:
        sys.path.remove(str(tmp_path))
    code, _, err = run(tmp_path, path, "--images", pictures, "--imgsz", 64, "--target", "onnx")
    assert code == 1
    assert "pass --trust" in one_line(err)
    code, out, err = run(tmp_path, path, "--images", pictures, "--imgsz", 64, "--target", "onnx", "--trust")
    assert code == 0, err
    assert "it can run any code" in one_line(err)
    assert "loaded without restrictions" in out


def test_nothing_is_written_beside_the_weights(model: Path, pictures: Path, tmp_path: Path) -> None:
    before = sorted(model.parent.iterdir())
    assert run(tmp_path, *small(model, pictures), "--output", "elsewhere")[0] == 0
    assert sorted(model.parent.iterdir()) == before
    assert list(tmp_path.iterdir()) == [tmp_path / "elsewhere"]

"""What an import costs, that the public names are complete, and what is said where an extra is not installed."""

from __future__ import annotations

import ast
import graphlib
import pickle
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Container, Iterator
from pathlib import Path

import pytest

import yolotrt
from tests.support.blocked import run_blocked, run_cli_blocked
from tests.support.tiny_models import tiny_yolo

HEAVY = {
    *("torch", "torchvision", "ultralytics", "onnx", "onnxsim", "onnxruntime", "openvino", "cv2", "av", "cuda"),
    *("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings", "tensorrt_lean", "tensorrt_dispatch", "supervision"),
    *("trackers", "prometheus_client", "pynvml", "scipy"),
}
SHOW_MODULES = "import sys\nprint(*sys.modules)"


def modules_after(code: str) -> set[str]:
    result = subprocess.run(
        [sys.executable, "-c", f"{code}\n{SHOW_MODULES}"], capture_output=True, text=True, check=True, timeout=60
    )
    return {name.partition(".")[0] for name in result.stdout.splitlines()[-1].split()}


@pytest.mark.parametrize(
    "code",
    [
        "import yolotrt",
        "from yolotrt.cli import cli\ncli(['--help'], standalone_mode=False)",
        "from yolotrt.cli import cli\ncli(['doctor', '--help'], standalone_mode=False)",
    ],
)
def test_importing_and_helping_load_nothing_heavy(code: str) -> None:
    assert not modules_after(code) & HEAVY


def test_importing_loads_no_numpy() -> None:
    assert "numpy" not in modules_after("import yolotrt")


def test_every_public_name_can_be_imported() -> None:
    for name in yolotrt.__all__:
        assert getattr(yolotrt, name) is not None
    assert dir(yolotrt) == sorted(yolotrt.__all__)


def test_the_names_for_type_checkers_are_the_public_ones() -> None:
    tree = ast.parse(Path(yolotrt.__file__).read_text(encoding="utf-8"))
    (block,) = [n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    imports = {
        alias.asname or alias.name: f"{node.module}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(imports) | {"__version__"} == set(yolotrt.__all__)
    assert imports == {name: f"yolotrt.{home}" for name, home in yolotrt._HOMES.items()}


# Conveniences that reach from below to above: an import inside a function, and of one kind alone.
_SHORT_CUTS = {
    ("yolotrt.detections", "yolotrt.plotting"),  # Detections.plot()
    ("yolotrt.model_files", "yolotrt.export.cached"),  # weights, which are exported before they run
}


def _imported(path: Path, known: Container[str]) -> Iterator[str]:
    """The modules of this package that one imports, in functions too, but not for type checkers alone."""
    for node in _without_types(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module in known:
            for name in (f"{node.module}.{alias.name}" for alias in node.names):
                yield name if name in known else node.module


def _without_types(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from _without_types(child)


def test_no_modules_import_each_other() -> None:
    root = Path(yolotrt.__file__).parent
    modules = {".".join(p.relative_to(root.parent).with_suffix("").parts): p for p in root.rglob("*.py")}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}
    graph = {name: {n for n in _imported(p, modules) if n != name} for name, p in modules.items()}
    for below, above in _SHORT_CUTS:
        graph[below].remove(above)
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(modules)  # raises CycleError


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Detecter'"):
        _ = yolotrt.Detecter


def test_every_extra_that_is_named_exists() -> None:
    sources = [p.read_text(encoding="utf-8") for p in Path(yolotrt.__file__).parent.rglob("*.py")]
    named = {extra for text in sources for extra in re.findall(r"yolotrt\[([\w,]+)\]", text)}
    for tree in map(ast.parse, sources):
        calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "MissingExtraError"]
        named |= {c.args[1].value for c in calls if isinstance(c.args[1], ast.Constant) and c.args[1].value}
    assert {"export", "openvino", "video"} <= named
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    table = project.split("[project.optional-dependencies]")[1].split("\n[")[0]
    assert named <= set(re.findall(r"^(\w+) = \[", table, re.MULTILINE))


DETECT = "from yolotrt import Detector\nimport sys\nDetector(sys.argv[1], backend=sys.argv[2])"
TO_SUPERVISION = "from yolotrt import Detections\nDetections.empty(names=(), size=(1, 1)).to_supervision()"
READ_VIDEO = "import sys\nfrom yolotrt import open_source\nlist(open_source(sys.argv[1]))"


def last_line(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode != 0
    return result.stderr.strip().splitlines()[-1]


def test_openvino_blocked(tmp_path: Path) -> None:
    model = tiny_yolo(tmp_path / "tiny.onnx")
    assert '"yolotrt[openvino]"' in last_line(run_blocked(["openvino"], DETECT, str(model), "openvino"))


def test_onnxruntime_blocked(tmp_path: Path) -> None:
    model = tiny_yolo(tmp_path / "tiny.onnx")
    line = last_line(run_blocked(["onnxruntime"], DETECT, str(model), "onnxruntime"))
    assert line.endswith("Install it with: pip install onnxruntime")


def test_without_openvino_onnxruntime_runs_the_model(tmp_path: Path) -> None:
    model = tiny_yolo(tmp_path / "tiny.onnx")
    result = run_blocked(["openvino"], DETECT + "\nprint(Detector(sys.argv[1]).info)", str(model), "auto")
    assert result.returncode == 0, result.stderr
    assert "onnxruntime" in result.stdout


def test_supervision_blocked() -> None:
    assert '"yolotrt[supervision]"' in last_line(run_blocked(["supervision"], TO_SUPERVISION))


def test_av_blocked(tmp_path: Path) -> None:
    video = tmp_path / "video.mp4"
    video.write_bytes(bytes(100))
    assert '"yolotrt[video]"' in last_line(run_blocked(["av"], READ_VIDEO, str(video)))


@pytest.mark.parametrize("blocked", ["torch", "ultralytics"])
def test_ultralytics_blocked(blocked: str, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    with zipfile.ZipFile(weights, "w") as archive:  # as PyTorch packs them
        archive.writestr("weights/data.pkl", pickle.dumps({"model": None}, protocol=2))
        archive.writestr("weights/version", "3")
    result = run_cli_blocked([blocked], "export", str(weights), "--output", str(tmp_path / "out"))
    assert result.returncode == 1
    assert '"yolotrt[export]"' in last_line(result)


def test_tensorrt_blocked(tmp_path: Path) -> None:
    model = tiny_yolo(tmp_path / "tiny.onnx")
    missing = ["tensorrt", "tensorrt_bindings", "tensorrt_rtx", "tensorrt_rtx_bindings"]
    arguments = ("export", str(model), "--target", "tensorrt-rtx", "--output", str(tmp_path / "out"))
    result = run_cli_blocked(missing, *arguments)
    assert result.returncode == 1
    assert '"yolotrt[rtx]"' in last_line(result)


@pytest.mark.parametrize(("code", "most_s"), [("import yolotrt", 0.3), ("from yolotrt.cli import main; main()", 0.4)])
def test_it_starts_at_once(code: str, most_s: float) -> None:
    took = []
    for _ in range(5):  # the best of some: tests share their cores
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, check=True, timeout=60)
        took.append(time.perf_counter() - started)
    assert min(took) < most_s

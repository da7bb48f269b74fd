"""Loading weights: what is refused, and that refusing runs no code."""

from __future__ import annotations

import logging
import os
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.export.conftest import Weights
from tests.support.weights import save_weights
from yolotrt.errors import ModelError, UntrustedModelError
from yolotrt.export.source import find_source
from yolotrt.export.ultralytics_quiet import quiet_ultralytics
from yolotrt.export.weights import load_weights


class Evil:
    """Runs a command when it is unpickled without restrictions."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


class Harmless:
    """A class that Ultralytics does not know."""


def torch_save(value: object, path: Path) -> Path:
    with quiet_ultralytics(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch

        torch.save(value, path)
    return path


def test_ordinary_weights_are_loaded_with_restrictions(weights: Weights) -> None:
    found = load_weights(weights("yolov8n"))
    assert found.restricted
    assert found.names == ("thing0", "thing1", "thing2", "thing3", "thing4")
    assert (found.stride, found.imgsz, found.head, found.end_to_end) == (32, (128, 128), "Detect", False)


@pytest.mark.parametrize("trusted", [False, True])
def test_a_malicious_pickle_does_not_run_unless_trusted(tmp_path: Path, trusted: bool) -> None:
    marker, path = tmp_path / "ran", tmp_path / "evil.pt"
    torch_save({"model": Evil(marker)}, path)
    with pytest.raises(ModelError) as raised:
        load_weights(path, trust=trusted)
    assert marker.exists() == trusted
    if not trusted:
        assert isinstance(raised.value, UntrustedModelError)
        assert "--trust" in str(raised.value)
        assert "system" in str(raised.value)


def test_a_malicious_plain_pickle_does_not_run(tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps(Evil(marker)))
    with pytest.raises(ModelError, match="refuses it") as raised:
        load_weights(path)
    assert "weights_only" not in str(raised.value)
    assert not marker.exists()


def test_unknown_classes_need_trust_and_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = save_weights(tmp_path / "custom.pt", "yolov8n", callback=Harmless())
    with pytest.raises(UntrustedModelError, match=r"Harmless.*--trust"):
        load_weights(path)
    with caplog.at_level(logging.WARNING, logger="yolotrt"):
        assert not load_weights(path, trust=True).restricted
    assert "can run any code" in caplog.text


def test_truncated_weights(weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "cut.pt"
    path.write_bytes(weights("yolov8n").read_bytes()[:200_000])
    with pytest.raises(ModelError, match="truncated or damaged"):
        load_weights(path)


def test_a_damaged_pickle_in_a_whole_archive(weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "damaged.pt"
    with zipfile.ZipFile(weights("yolov8n")) as good, zipfile.ZipFile(path, "w") as bad:
        for item in good.infolist():
            data = good.read(item)
            bad.writestr(item, data[: len(data) // 2] if item.filename.endswith("data.pkl") else data)
    with pytest.raises(ModelError, match="damaged, or not weights"):
        load_weights(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "an empty file"), (b"hello world", "not PyTorch weights"), (b"\x80\x02garbage", "damaged, or not weights")],
)
def test_files_that_are_no_weights(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        load_weights(path)


def test_another_zip_archive(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ModelError, match="another kind of zip archive"):
        load_weights(path)


def test_torch_data_without_a_model(tmp_path: Path, weights: Weights) -> None:
    net = load_weights(weights("yolov8n")).net
    with quiet_ultralytics():
        import torch

        tensor = torch.zeros(3)
    for value in (tensor, net.state_dict(), {"model": net.state_dict()}, [1, 2]):
        with pytest.raises(ModelError, match=r"without a model|not weights"):
            load_weights(torch_save(value, tmp_path / "x.pt"))


def test_a_torchscript_archive(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch

        torch.jit.script(torch.nn.ReLU()).save(str(path))
    with pytest.raises(ModelError, match="TorchScript"):
        load_weights(path)


@pytest.mark.parametrize("config", ["yolov8n-seg", "yolov8n-pose", "yolov8n-obb", "yolov8n-cls"])
def test_other_tasks_are_refused_by_name(weights: Weights, config: str) -> None:
    task = {"seg": "segment", "pose": "pose", "obb": "obb", "cls": "classify"}[config.split("-")[1]]
    with pytest.raises(ModelError, match=rf"not supported yet, got {task}"):
        load_weights(weights(config))


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a folder, not a model"):
        find_source(tmp_path)
    with pytest.raises(ModelError, match="no such file"):
        find_source(tmp_path / "none.pt")
    with pytest.raises(ModelError, match="no such file"):
        find_source("no-such-model")
    (tmp_path / "x.engine").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"expected \.pt or \.onnx"):
        find_source(tmp_path / "x.engine")


@pytest.mark.parametrize(("file", "stem"), [("a.pt", "a"), ("a-fp16.onnx", "a"), ("-fp16.onnx", "-fp16")])
def test_the_stem_leaves_out_a_precision(tmp_path: Path, file: str, stem: str) -> None:
    (tmp_path / file).write_bytes(b"x")
    assert find_source(tmp_path / file).stem == stem


def test_a_model_name_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.chdir(tmp_path)
    for name in ("yolov8n", "yolov8n.pt"):
        with pytest.raises(ModelError, match=r"Ultralytics could not download it.* Check the network"):
            find_source(name)
    assert list(tmp_path.iterdir()) == []

"""Loading Ultralytics `.pt` weights, restricted wherever that works.

A `.pt` is a pickle, and unpickling can run any code. Ultralytics' restricted loader rebuilds known model classes only;
anything else in the file is refused, unless the caller says that the file may be trusted.
"""

from __future__ import annotations

import logging
import pickle
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolotrt.errors import MissingExtraError, ModelError, UntrustedModelError
from yolotrt.export.ultralytics_quiet import quiet_ultralytics

_DETECT_HEADS = frozenset({"Detect", "v10Detect", "RTDETRDecoder"})
_LOG = logging.getLogger("yolotrt")
_LOAD_ERRORS = (
    TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError, EOFError, OSError, ImportError,
    pickle.UnpicklingError, AssertionError, NotImplementedError,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LoadedWeights:
    """A detection model in PyTorch. Produced by `load_weights`, consumed by `torch_to_onnx` and the comparison.

    Attributes:
        net: the `torch.nn.Module`, FP32 on the CPU, in inference mode, its end-to-end head chosen where it has one.
        head: class name of its detection head.
        names: class names.
        stride: both input sides are multiples of it.
        imgsz: input (height, width) it was trained with, in pixels.
        end_to_end: whether it gives final boxes, without NMS.
        restricted: whether it was loaded without running code from the file.
    """

    net: Any = field(repr=False)
    head: str
    names: tuple[str, ...]
    stride: int
    imgsz: tuple[int, int]
    end_to_end: bool
    restricted: bool

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(int(p.numel()) for p in self.net.parameters())

    def run(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The framework's own output for `images` (float32 `[N, 3, H, W]`, RGB in 0..1)."""
        import torch

        with torch.no_grad():
            output = self.net(torch.from_numpy(images))
        result: npt.NDArray[np.float32] = (output[0] if isinstance(output, (tuple, list)) else output).numpy()
        return result


def load_weights(path: Path, *, trust: bool = False) -> LoadedWeights:
    """Load a `.pt` that Ultralytics wrote.

    Args:
        path: the file.
        trust: where the restricted loader refuses the file, load it without restrictions, after a logged warning.

    Raises:
        UntrustedModelError: only an unrestricted load could read it, and `trust` was not given.
        ModelError: damaged, not weights, not a YOLO, or of a task that yolotrt does not export.
        MissingExtraError: Ultralytics is not installed.
    """
    _check_container(path)
    try:
        with quiet_ultralytics():
            checkpoint, restricted = _unpickle(path, trust=trust)
            net = _network(checkpoint, path)
            return _describe(net, checkpoint, path, restricted=restricted)
    except ModuleNotFoundError as e:
        package = (e.name or "").partition(".")[0]
        if package not in ("ultralytics", "torch"):
            raise
        raise MissingExtraError(package, "export", needed_for=f"Loading {path.name}") from e


def _check_container(path: Path) -> None:
    """Say what a file is that cannot be weights, before anything tries to unpickle it."""
    with path.open("rb") as f:
        start = f.read(4)
    if not start:
        raise ModelError(f"{path}: an empty file")
    if start[:2] == b"PK":
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except zipfile.BadZipFile as e:
            raise ModelError(f"{path}: truncated or damaged weights", remedy="Copy or download the file again.") from e
        if any(n.split("/")[1:2] == ["code"] for n in names):
            raise ModelError(
                f"{path}: a TorchScript archive",
                expected="the .pt weights it was made from",
                remedy="Or export those to ONNX and give the .onnx file.",
            )
        if not any(n.endswith("data.pkl") for n in names):
            raise ModelError(f"{path}: not PyTorch weights", got="another kind of zip archive")
    elif start[:1] != b"\x80":  # the first byte of every pickle that torch.save has written
        raise ModelError(f"{path}: not PyTorch weights", got=f"a file that starts with {start!r}")


def _unpickle(path: Path, *, trust: bool) -> tuple[Any, bool]:
    """(checkpoint, whether the restricted loader read it)."""
    refusal = _cannot_restrict()
    if refusal is None:
        from ultralytics.nn.tasks import torch_safe_load

        try:
            return torch_safe_load(str(path), safe_only=True)[0], True
        except _LOAD_ERRORS as e:
            refusal = _refused_name(e)
            if refusal is None:
                raise _damaged(path, e) from e
    if refusal.split(".")[0] == "models":
        raise ModelError(
            f"{path}: weights of the YOLOv5 or YOLOv7 repository, which Ultralytics cannot load",
            remedy="Export them to ONNX with that repository's export.py and give the .onnx file.",
        )
    if not trust:
        raise UntrustedModelError(
            f"{path}: cannot be loaded without running code from the file ({refusal})",
            remedy="If you trust where it comes from, pass --trust.",
        )
    _LOG.warning("Loading %s without restrictions (%s): it can run any code that it holds.", path, refusal)
    from ultralytics.nn.tasks import torch_safe_load

    try:
        return torch_safe_load(str(path), safe_only=False)[0], False
    except _LOAD_ERRORS as e:
        raise _damaged(path, e) from e


def _cannot_restrict() -> str | None:
    """Why this Ultralytics or PyTorch has no restricted loader; None where it has one."""
    from ultralytics.nn import tasks

    loader = getattr(tasks, "_SafeLoad", None)
    # On older PyTorch, Ultralytics would quietly fall back to an unrestricted load.
    return None if loader is not None and loader.SUPPORTED else "PyTorch before 2.6 has no restricted loader for it"


def _refused_name(error: BaseException) -> str | None:
    """What the restricted loader refused to import or call; None where the error is another one."""
    cause = error.__cause__ if isinstance(error.__cause__, pickle.UnpicklingError) else error
    if not isinstance(cause, pickle.UnpicklingError):
        return None
    text = str(cause)
    if found := re.search(r"GLOBAL (\S+)", text):
        return found[1]
    # "Unsupported operand" is no such refusal: these are bytes that no pickle has.
    refused = re.search(r"unsupported class|unrecognized function|unsafe getattr", text)
    return "an object that its restricted loader refuses" if refused else None


def _damaged(path: Path, error: BaseException) -> ModelError:
    first = str(error.__cause__ or error).strip().splitlines()
    text = first[0] if first else type(error).__name__
    if "weights_only" in text:  # PyTorch's advice on its own options, which no user of this can follow
        text = "its restricted loader refuses it"
    return ModelError(f"{path}: damaged, or not weights that Ultralytics wrote ({text[:160]})")


def _network(checkpoint: Any, path: Path) -> Any:
    """The network in a checkpoint, FP32 and ready to run."""
    import torch
    from ultralytics.nn.tasks import DetectionModel

    net = (checkpoint.get("ema") or checkpoint.get("model")) if isinstance(checkpoint, dict) else None
    if not isinstance(net, torch.nn.Module):
        raise ModelError(
            f"{path}: PyTorch data without a model", expected="weights that Ultralytics wrote, as best.pt or last.pt"
        )
    if checkpoint.get("modelopt"):
        raise ModelError(f"{path}: a quantization-aware trained model, which is not supported yet")
    head = type(net.model[-1]).__name__ if isinstance(net, DetectionModel) else type(net).__name__
    if head not in _DETECT_HEADS:
        raise ModelError(
            f"{path}: models of this kind are not supported yet",
            got=f"{getattr(net, 'task', None) or 'unknown task'} ({head})",
            expected="a detection model",
        )
    net = net.float().eval()
    for parameter in net.parameters():
        parameter.requires_grad = False
    for module in net.modules():
        if isinstance(module, torch.nn.Upsample) and not hasattr(module, "recompute_scale_factor"):
            module.recompute_scale_factor = None  # weights saved by PyTorch before 1.11 lack it
    return net


def _describe(net: Any, checkpoint: dict[str, Any], path: Path, *, restricted: bool) -> LoadedWeights:
    head = net.model[-1]
    channels = int((net.yaml or {}).get("channels", 3))
    if channels != 3:
        raise ModelError(f"{path}: models with other than three input channels are not supported", got=channels)
    # The one-to-one head gives final boxes; Ultralytics exports the one-to-many head unless this is set.
    end_to_end = getattr(head, "one2one_cv2", None) is not None
    if end_to_end:
        net.end2end = True
    names = net.names if getattr(net, "names", None) else {i: f"class{i}" for i in range(head.nc)}
    by_id = names if isinstance(names, dict) else dict(enumerate(names))
    stride = int(max(net.stride)) if hasattr(net, "stride") else 32
    trained = (checkpoint.get("train_args") or {}).get("imgsz") or 640
    height, width = (trained, trained) if isinstance(trained, (int, float)) else (trained[0], trained[-1])
    return LoadedWeights(
        net=net,
        head=type(head).__name__,
        names=tuple(str(by_id.get(i, f"class{i}")) for i in range(head.nc)),
        stride=stride,
        imgsz=(int(height), int(width)),
        end_to_end=end_to_end,
        restricted=restricted,
    )

"""What FP16 with FP16 sums does to the boxes, without a GPU: the demo model in PyTorch, rounded as such a GPU rounds.

Tensor cores may add up products in FP16, a few at a time; ONNX Runtime on a CPU does not. Here every convolution rounds
its inputs, its weights, its running sum after each 16 products, and its result. Prints a markdown table: which
convolutions are left in FP32, boxes of the sample video matched with FP32 at IoU 0.98, and the error of boxes above the
threshold in input pixels.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from yolotrt import Detections, DetectOptions, assets  # noqa: E402
from yolotrt.decode import decode  # noqa: E402
from yolotrt.evaluation.matching import match_all  # noqa: E402
from yolotrt.export.torch_to_onnx import prepared  # noqa: E402
from yolotrt.export.weights import LoadedWeights, load_weights  # noqa: E402
from yolotrt.model_spec_infer import read_onnx_spec  # noqa: E402
from yolotrt.preprocess.letterbox_cpu import letterbox  # noqa: E402
from yolotrt.sources import open_source  # noqa: E402
from yolotrt.types import Batch, RawOutputs  # noqa: E402

PRODUCTS = 16  # that a tensor core adds up before it rounds

# Names of the convolutions left in FP32, by what the row is called. Module 22 is the head.
VARIANTS: dict[str, Callable[[str], bool]] = {
    "none": lambda _: False,
    "the expectation over bins": lambda n: "dfl" in n,
    "that and the head's last convolutions": lambda n: "dfl" in n or (n.startswith("model.22.cv") and n.endswith(".2")),
    "the head": lambda n: n.startswith("model.22"),
}


def rounded(x: Any) -> Any:
    return x.half().float()


def convolution(layer: Any) -> Callable[[Any], Any]:
    """The layer's forward function in emulated FP16."""
    weights = rounded(layer.weight).flatten(1)
    kernel, padding, stride = layer.kernel_size, layer.padding, layer.stride

    def run(x: Any) -> Any:
        columns = functional.unfold(rounded(x), kernel, layer.dilation, padding, stride)[0]
        total = torch.zeros(weights.shape[0], columns.shape[1])
        for k in range(0, weights.shape[1], PRODUCTS):
            total = rounded(total + weights[:, k : k + PRODUCTS] @ columns[k : k + PRODUCTS])
        height = (x.shape[2] + 2 * padding[0] - kernel[0]) // stride[0] + 1
        total = total.view(1, weights.shape[0], height, -1)
        return total if layer.bias is None else rounded(total + rounded(layer.bias).view(1, -1, 1, 1))

    return run


def emulated(weights: LoadedWeights, keep: Callable[[str], bool]) -> Any:
    """A copy of the network that computes in FP16, but for the convolutions whose name `keep` takes."""
    net = prepared(weights, (640, 640))
    for name, layer in net.named_modules():
        if isinstance(layer, torch.nn.Conv2d) and not keep(name):
            layer.forward = convolution(layer)
        elif isinstance(layer, torch.nn.SiLU):
            layer.forward = lambda x: rounded(functional.silu(x))
    return net


def outputs(net: Any, inputs: list[Batch]) -> list[np.ndarray]:
    with torch.no_grad():
        return [net(torch.from_numpy(batch.images)).numpy().copy() for batch in inputs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step", type=int, default=2, help="take every so manyth frame  [default: 2]")
    step = parser.parse_args().step
    spec = read_onnx_spec(assets.demo_model())
    with open_source(assets.sample_video()) as frames:
        inputs = [letterbox([frame.pixels], spec) for frame in frames if frame.index % step == 0]

    def boxes(found: list[np.ndarray]) -> list[Detections]:
        raw = [RawOutputs(arrays={spec.outputs[0].name: array}, spec=spec) for array in found]
        return [decode(r, b.geometries, DetectOptions())[0] for r, b in zip(raw, inputs, strict=True)]

    weights = load_weights(assets.folder() / "yolov8n_demo.pt")
    reference = outputs(prepared(weights, (640, 640)), inputs)
    print("| left in FP32 | boxes | matched | added | mean error, px | p99 |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, keep in VARIANTS.items():
        found = outputs(emulated(weights, keep), inputs)
        m = match_all(zip(boxes(reference), boxes(found), strict=True), min_iou=0.98)
        errors = np.concatenate([
            np.abs(a - b)[0, :4, a[0, 4:].max(axis=0) > DetectOptions().conf].ravel()
            for a, b in zip(reference, found, strict=True)
        ])  # fmt: skip
        print(
            f"| {name} | {m.reference} | {m.matched_share:.4f} | {m.added_share:.4f} | {errors.mean():.4f} "
            f"| {np.quantile(errors, 0.99):.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

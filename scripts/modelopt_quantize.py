"""One call of NVIDIA ModelOpt's ONNX quantization; `bench_modelopt.py` starts it with ModelOpt's own interpreter."""

from __future__ import annotations

import argparse
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path


def main() -> int:
    """Quantize as the command line says; the last line of the output is JSON: versions and seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--onnx", type=Path, required=True, help="the FP32 graph")
    parser.add_argument("--pictures", type=Path, required=True, help="NumPy file, float32 [N, 3, H, W]")
    parser.add_argument("--kind", choices=("int8", "fp8"), required=True)
    parser.add_argument("--method", choices=("entropy", "max"), required=True)
    parser.add_argument("--exclude", type=Path, help="JSON list of node names")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()

    import numpy as np
    import onnx
    from modelopt.onnx.quantization import quantize  # type: ignore[import-not-found]
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    name = onnx.load(options.onnx).graph.input[0].name
    pictures = np.load(options.pictures, mmap_mode="r")

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """One picture at a time, as often as it is asked from the start."""

        def __init__(self) -> None:
            self.rewind()

        def get_next(self) -> dict[str, np.ndarray] | None:
            picture = next(self._pictures, None)
            return None if picture is None else {name: np.ascontiguousarray(picture[None])}

        def get_first(self) -> dict[str, np.ndarray]:
            return {name: np.ascontiguousarray(pictures[:1])}

        def rewind(self) -> None:
            self._pictures = iter(pictures)

    started = time.perf_counter()
    quantize(
        str(options.onnx),
        quantize_mode=options.kind,
        calibration_method=options.method,
        calibration_data_reader=Reader(),
        calibration_eps=["cpu"],
        nodes_to_exclude=json.loads(options.exclude.read_text()) if options.exclude else None,
        high_precision_dtype="fp32",  # what FP16 costs is not asked here
        output_path=str(options.output),
        log_level="WARNING",
    )
    seconds = time.perf_counter() - started
    versions = {name: version(name) for name in ("nvidia-modelopt", "onnx", "onnxruntime", "torch", "numpy")}
    print(json.dumps({"seconds": round(seconds, 1), "versions": versions}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

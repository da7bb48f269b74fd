"""Calibrations that were measured before: on disk, by the content of all that they depend on.

An entry is a folder, named by a hash. In it are `measured.npz` (what one pass over the pictures found), a JSON file for
each set of ranges that was chosen, and an NPZ file for each convolution whose weights were rounded. Each file is whole
or absent, and any of them can be made again: so processes need not know of each other, and a file that cannot be read
counts as absent.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import hashlib
import json
import logging
import zipfile
import zlib
from collections import UserDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import cv2
import numpy as np

from yolotrt import files
from yolotrt.cache import cache_folder, keep_newest
from yolotrt.errors import SinkError
from yolotrt.export.digests import code_digest
from yolotrt.export.fp16_rewrite import normalise
from yolotrt.export.quantize.calibrate import Range
from yolotrt.export.quantize.histogram import BINS, Histogram
from yolotrt.export.quantize.insert import QuantizedWeights, raise_opset
from yolotrt.export.quantize.observe import Batches
from yolotrt.export.quantize.pictures import CalibrationPictures
from yolotrt.export.quantize.quantize import Calibration
from yolotrt.model_spec import ModelSpec
from yolotrt.types import Batch

if TYPE_CHECKING:
    import onnx

MOST = 20
"""Entries that are kept, those used last. One is some megabytes."""

T = TypeVar("T")
OnProgress = Callable[[str], None]

_log = logging.getLogger(__name__)
_PACKAGE = Path(__file__).parents[2]
_DAMAGED = (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error)


def measured(
    model: onnx.ModelProto, pictures: CalibrationPictures, spec: ModelSpec, *, on_progress: OnProgress | None = None
) -> tuple[Calibration, bool]:
    """The calibration of a graph on some pictures, measured now unless it was before.

    Ranges that `Calibration.quantize` chooses and weights that it rounds are kept as well. The result is the same, to
    the bit, with and without what is kept. A cache that cannot be written is no error.

    Args:
        model: a float32 detection graph, simplified.
        pictures: to calibrate on.
        spec: of the model; how it wants its pictures.
        on_progress: told what is going on, in a few words.

    Returns:
        The calibration, and whether it was there already.

    Raises:
        ExportError: as `quantize` does.
        SourceError: a picture cannot be read any more.
    """
    normal = normalise(raise_opset(model))
    entry = cache_folder() / "calibration" / _key(normal, pictures, spec)
    ranges, weights = _KeptRanges(entry), _KeptWeights(entry)
    found = _read(entry, normal, lambda: pictures.batches(spec), ranges, weights)
    if found is not None:
        keep_newest(entry, MOST)
        return found, True
    watched = _Watched(lambda: pictures.batches(spec), pictures.count, on_progress)
    made = Calibration.measure(model, watched)
    made = dataclasses.replace(made, batches=lambda: pictures.batches(spec), ranges=ranges, adapted=weights)
    with _tolerated(entry):
        _write(entry, made)
    keep_newest(entry, MOST)
    return made, False


def _key(normal: onnx.ModelProto, pictures: CalibrationPictures, spec: ModelSpec) -> str:
    """Hash of all that a calibration depends on. Of the model, its graph: metadata may tell when it was made."""
    import onnxruntime

    opsets = sorted((o.domain, o.version) for o in normal.opset_import)
    versions = {"numpy": np.__version__, "onnxruntime": onnxruntime.__version__, "opencv": cv2.__version__}
    given: dict[str, Any] = {
        "graph": hashlib.sha256(normal.graph.SerializeToString(deterministic=True)).hexdigest(),
        "opsets": opsets,
        "pictures": [pictures.digest, pictures.count],
        "input": [spec.imgsz, spec.stride, spec.batch.min, dataclasses.astuple(spec.input)],
        "letterbox": dataclasses.astuple(spec.letterbox),
        "code": code_digest(_PACKAGE),
        "versions": versions,
    }
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:32]


class _Watched:
    """Batches that tell how far the first pass over them, which is by far the longest, has come."""

    def __init__(self, batches: Batches, total: int, say: OnProgress | None) -> None:
        self._batches, self._total, self._say = batches, total, say

    def __call__(self) -> Iterator[Batch]:
        say, self._say = self._say, None
        done = 0
        for batch in self._batches():
            yield batch
            done += len(batch.images)
            if say is not None:
                say(f"{min(done, self._total)} of {self._total} calibration pictures")


class _Kept(UserDict[str, T], abc.ABC):
    """Values that are files of an entry as well: read when they are first asked for, written when they are set."""

    def __init__(self, entry: Path) -> None:
        super().__init__()
        self._entry = entry

    def __contains__(self, key: object) -> bool:
        if key not in self.data:
            path = self._path(str(key))
            try:
                self.data[str(key)] = self._read(path)
            except FileNotFoundError:
                return False
            except _DAMAGED as e:
                _log.info("%s is damaged and will be made again (%s)", path, e)
                return False
        return True

    def __setitem__(self, key: str, value: T) -> None:
        self.data[key] = value
        with _tolerated(self._entry):
            self._write(self._path(key), value)

    @abc.abstractmethod
    def _path(self, key: str) -> Path: ...

    @abc.abstractmethod
    def _read(self, path: Path) -> T: ...

    @abc.abstractmethod
    def _write(self, path: Path, value: T) -> None: ...


class _KeptRanges(_Kept[list[Range]]):
    """Ranges by what they were chosen for; each set is a file."""

    def _path(self, key: str) -> Path:
        return self._entry / f"ranges-{key}.json"

    def _read(self, path: Path) -> list[Range]:
        return [Range(**r) for r in json.loads(path.read_text(encoding="utf-8"))]

    def _write(self, path: Path, value: list[Range]) -> None:
        files.write_text(path, json.dumps([dataclasses.asdict(r) for r in value]))


class _KeptWeights(_Kept[QuantizedWeights]):
    """Rounded weights by what they were rounded for; those of each convolution are a file."""

    def _path(self, key: str) -> Path:
        return self._entry / f"weights-{key}.npz"

    def _read(self, path: Path) -> QuantizedWeights:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            rounded, bias = arrays["rounded"].astype(np.float32), arrays["bias"]
            return QuantizedWeights(rounded=rounded, scale=arrays["scale"], bias=bias if bias.size else None)

    def _write(self, path: Path, value: QuantizedWeights) -> None:
        # FP16 holds every value of both formats.
        rounded, bias = value.rounded.astype(np.float16), value.bias
        with files.atomic_path(path) as temporary:
            np.savez_compressed(temporary, rounded=rounded, scale=value.scale, bias=[] if bias is None else bias)


def _read(
    entry: Path, normal: onnx.ModelProto, batches: Batches, ranges: _KeptRanges, weights: _KeptWeights
) -> Calibration | None:
    path = entry / "measured.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            counts, record = arrays["counts"], json.loads(str(arrays["record"]))
        return Calibration(
            model=normal,
            macs=record["macs"],
            histograms=_histograms(record["tensors"], counts),
            batches=batches,
            pictures=record["pictures"],
            digest=record["digest"],
            fp16=frozenset(record["fp16"]),
            ranges=ranges,
            adapted=weights,
        )
    except FileNotFoundError:
        return None
    except _DAMAGED as e:
        _log.info("%s is damaged and will be made again (%s)", path, e)
        return None


def _histograms(tensors: list[dict[str, Any]], counts: Any) -> dict[str, Histogram]:
    if counts.dtype != np.int64 or counts.shape != (len(tensors), BINS):
        raise ValueError(f"counts: got {counts.dtype} {counts.shape}, expected int64 {(len(tensors), BINS)}")
    found = {}
    for tensor, row in zip(tensors, counts, strict=True):
        histogram = found[tensor["name"]] = Histogram()
        histogram.counts, histogram.exponent, histogram.largest = row.copy(), tensor["exponent"], tensor["largest"]
    return found


def _write(entry: Path, calibration: Calibration) -> None:
    histograms = calibration.histograms
    record = {
        "tensors": [{"name": n, "exponent": h.exponent, "largest": h.largest} for n, h in histograms.items()],
        "macs": dict(calibration.macs),
        "pictures": calibration.pictures,
        "digest": calibration.digest,
        "fp16": sorted(calibration.fp16),
    }
    counts = np.stack([h.counts for h in histograms.values()])
    with files.atomic_path(entry / "measured.npz") as temporary:
        np.savez_compressed(temporary, counts=counts, record=np.array(json.dumps(record)))


@contextlib.contextmanager
def _tolerated(entry: Path) -> Iterator[None]:
    try:
        yield
    except SinkError as e:
        _log.warning("the calibration is not kept in %s: %s", entry, e)

"""A graph in OpenVINO that is cut before its boxes, and computes those of the anchors alone that somebody wants.

The arithmetic is the same but for the order of sums. It is done for all anchors where all are wanted, or so many that
it costs no more, and at the first batch, to see that the boxes of some anchors alone come out as theirs.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from yolotrt.backends.box_branch import SIDES, BoxBranch
from yolotrt.backends.box_patches import Patches
from yolotrt.backends.openvino_patches import PatchRequest
from yolotrt.decode.raw import least_logit

if TYPE_CHECKING:
    import openvino

Array = npt.NDArray[Any]
Float32Array = npt.NDArray[np.float32]
Int64Array = npt.NDArray[np.int64]

_log = logging.getLogger(__name__)

# Measured with a YOLOv8n on two cores: a multiplication for some anchors alone takes two to three times as long as one
# for all of them, and before the first of them is done the time of so many of these is gone.
_EFFORT, _START = 3, 80_000_000
_TRIED = 16  # anchors of each level, besides those at the rim
_BOX_PX, _VALUE = 0.02, 1e-3  # rounding of single precision is a tenth of these


@dataclass(frozen=True, kw_only=True, eq=False)
class CpuHead:
    """What of a graph follows its `trunk`, see `BoxBranch`, as OpenVINO's CPU plug-in is to compile it.

    Attributes:
        boxes: of all anchors. Its inputs are the features `[N, h, w, C]`, as the trunk gives them.
        patches: of some: see `patch_graph`.
        features, scores, outputs: names of tensors, as in `BoxBranch`.
        reads: of each level, multiplications per cell of the first convolution.
        gives: of each level, multiplications per anchor behind it.
        reg_max: see `RawHead`.
        joined: the output that holds the boxes and scores of an `anchor_free` head; empty for a `raw` one.
    """

    boxes: openvino.Model = field(repr=False)
    patches: openvino.Model = field(repr=False)
    features: Sequence[str]
    scores: Sequence[str]
    outputs: Sequence[str]
    reads: Sequence[int]
    gives: Sequence[int]
    reg_max: int
    joined: str

    @classmethod
    def of(cls, branch: BoxBranch, *, boxes: openvino.Model, patches: openvino.Model, joined: str) -> CpuHead:
        return cls(
            boxes=boxes,
            patches=patches,
            features=branch.features,
            scores=branch.scores,
            outputs=branch.outputs,
            reads=[level.first.size for level in branch.levels],
            gives=[level.second.size + level.last.size for level in branch.levels],
            reg_max=branch.reg_max,
            joined=joined,
        )

    def pays(self, features: Sequence[Float32Array], reads: Iterable[int], boxes: Iterable[int]) -> bool:
        """Whether some boxes alone are cheaper than all.

        Args:
            features: of each level.
            reads: of each level, how many cells of the first convolution the boxes need.
            boxes: of each level, how many.
        """
        alone = self._multiplications(reads, boxes)
        cells = [math.prod(feature.shape[:3]) for feature in features]
        return _START + _EFFORT * alone < self._multiplications(cells, cells)

    def _multiplications(self, reads: Iterable[int], boxes: Iterable[int]) -> int:
        every = zip(reads, self.reads, boxes, self.gives, strict=True)
        return sum(m * first + n * others for m, first, n, others in every)


class Trust:
    """Whether boxes of some anchors alone came out as those of all. One for all requests of a graph.

    Args:
        name: of the graph, for the log.
    """

    def __init__(self, name: str) -> None:
        self.holds = True
        self._name = name

    def lose(self, why: str) -> None:
        """Have all boxes computed from now on; logged the first time."""
        if self.holds:
            self.holds = False
            _log.info("%s: the boxes above the threshold are not computed alone: %s", self._name, why)


class HeadRequest:
    """Runs a graph that is cut. For one thread at a time.

    Args:
        head: what follows the trunk.
        trunk, boxes, patches: requests of the three parts.
        trust: in the boxes of some anchors alone.
    """

    def __init__(
        self,
        head: CpuHead,
        *,
        trunk: openvino.InferRequest,
        boxes: openvino.InferRequest,
        patches: openvino.InferRequest,
        trust: Trust,
    ) -> None:
        self._head, self._trunk, self._boxes = head, trunk, boxes
        self._request = PatchRequest(request=patches)
        self._tried, self._trust = False, trust

    def run(self, images: Mapping[str, Array], above: float) -> dict[str, Array]:
        """The outputs of the whole graph, by their names, which belong to the caller.

        Args:
            images: the input of the trunk, by its name.
            above: boxes of anchors whose best class score is not above this may be zero.

        Raises RuntimeError: OpenVINO failed.
        """
        found = self._trunk.infer(images, share_inputs=True, share_outputs=True)
        features = [found[name] for name in self._head.features]
        scores = [found[name] for name in self._head.scores]
        result = self._anchor_free(scores[0], features) if self._head.joined else self._raw(scores, features)
        cells = self._above(result.scores, above) if self._trust.holds and math.isfinite(above) else None
        patches = None if cells is None else self._patches_of(cells, features)
        if patches is None or not self._tried:
            self._fill(result, features)
            if patches is not None:
                self._try(result, features)
        # Those of the first batch as well, where both ways agree: the next one of the same pictures gives the same.
        if cells is not None and patches is not None and self._tried and self._trust.holds and any(map(len, cells)):
            for level, chosen, rows in zip(result.boxes, cells, self._some(features, cells, patches), strict=True):
                level[np.divmod(chosen, level.shape[1])] = rows
        return result.arrays

    def _anchor_free(self, scores: Float32Array, features: Sequence[Float32Array]) -> _Result:
        images, classes, anchors = scores.shape
        output = np.empty((images, SIDES + classes, anchors), np.float32)
        boxes, output[:, SIDES:] = output[:, :SIDES], scores
        boxes[:] = 0
        places = [0, *np.cumsum([f.shape[1] * f.shape[2] for f in features]).tolist()]
        if places[-1] != anchors:
            self._trust.lose("others come from elsewhere")
        levels = [slice(*pair) for pair in pairwise(places)]
        return _Result(
            arrays={self._head.joined: output},
            scores=[output[:, SIDES:, level] for level in levels],
            boxes=[boxes[:, :, level].transpose(0, 2, 1) for level in levels],
            filled=[boxes],
        )

    def _raw(self, scores: Sequence[Float32Array], features: Sequence[Float32Array]) -> _Result:
        own = [level.copy() for level in scores]
        boxes = [np.zeros((*f.shape[:3], SIDES * self._head.reg_max), np.float32) for f in features]
        turned = [level.transpose(0, 3, 1, 2) for level in boxes]
        return _Result(
            arrays=dict(zip([*self._head.outputs, *self._head.scores], [*turned, *own], strict=True)),
            scores=[level.reshape(*level.shape[:2], -1) for level in own],
            boxes=[level.reshape(len(level), -1, level.shape[3]) for level in boxes],
            filled=boxes,
        )

    def _above(self, scores: Sequence[Float32Array], above: float) -> list[Int64Array]:
        """Of each level, the anchors whose best score is above a threshold; those with NaN are not."""
        least = np.float32(above) if self._head.joined else least_logit(above)
        return [(level.max(axis=1).ravel() > least).nonzero()[0] for level in scores]

    def _patches_of(self, cells: Sequence[Int64Array], features: Sequence[Float32Array]) -> list[Patches] | None:
        """What the boxes of some anchors follow from; None where all boxes together are cheaper."""
        counts = [len(chosen) for chosen in cells]
        if not self._head.pays(features, counts, counts):  # there are at least as many to read
            return None
        found = [Patches.around(chosen, f.shape[:3]) for chosen, f in zip(cells, features, strict=True)]
        return found if self._head.pays(features, [len(each.reads) for each in found], counts) else None

    def _fill(self, result: _Result, features: Sequence[Float32Array]) -> None:
        """The boxes of all anchors."""
        given = dict(zip(self._head.features, features, strict=True))
        found = self._boxes.infer(given, share_inputs=True, share_outputs=True)
        for target, name in zip(result.filled, self._head.outputs, strict=True):
            np.copyto(target, found[name])

    def _some(
        self, features: Sequence[Float32Array], cells: Sequence[Int64Array], patches: Sequence[Patches]
    ) -> list[Float32Array]:
        """The boxes of some anchors of each level, one row each."""
        found = self._request.run(features, patches)
        if not self._head.joined:
            return found
        height = self._trunk.input_tensors[0].shape[1]
        return [
            _boxes(sides, chosen, feature.shape, height // feature.shape[1])
            for sides, chosen, feature in zip(found, cells, features, strict=True)
        ]

    def _try(self, result: _Result, features: Sequence[Float32Array]) -> None:
        """Compare some boxes, those at the rim among them, with what was computed for all.

        What the head does with the values of the branch is told in no other way.
        """
        if not all(np.isfinite(boxes).all() for boxes in result.filled):
            return  # a picture that tells nothing; the next one may
        cells = [_tried(*feature.shape[:3]) for feature in features]
        patches = [Patches.around(chosen, f.shape[:3]) for chosen, f in zip(cells, features, strict=True)]
        self._tried = True
        for level, chosen, rows in zip(result.boxes, cells, self._some(features, cells, patches), strict=True):
            whole = level[np.divmod(chosen, level.shape[1])]
            allowed = _BOX_PX if self._head.joined else _VALUE * np.maximum(1, np.abs(whole))
            if not (np.abs(rows - whole) < allowed).all():
                self._trust.lose("the head does something else with them")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Result:
    """The outputs of a graph, in which the boxes are zero so far.

    Attributes:
        arrays: by name.
        scores: of each level, those in them: `[N, nc, h * w]`.
        boxes: of each level, those in them: `[N, h * w, 4]`, or `[N, h * w, 4 * reg_max]` of a raw head.
        filled: what the boxes of all anchors are copied to, in the order of `CpuHead.outputs`.
    """

    arrays: dict[str, Array] = field(repr=False)
    scores: Sequence[Float32Array] = field(repr=False)
    boxes: Sequence[Float32Array] = field(repr=False)
    filled: Sequence[Float32Array] = field(repr=False)


def _boxes(sides: Float32Array, cells: Int64Array, shape: tuple[int, ...], stride: int) -> Float32Array:
    """cx, cy, w, h `[k, 4]` in input pixels, of the distances `[k, 4]` in strides; cells of a level `[N, h, w, C]`."""
    y, x = np.divmod(cells % (shape[1] * shape[2]), shape[2])
    middles = np.stack([x, y], axis=1).astype(np.float32) + np.float32(0.5)
    low, high = middles - sides[:, :2], middles + sides[:, 2:]
    return np.concatenate([(low + high) / 2, high - low], axis=1) * np.float32(stride)


def _tried(images: int, height: int, width: int) -> Int64Array:
    """The corners of each picture, and some more anchors."""
    corners = np.array([0, width - 1, (height - 1) * width, height * width - 1])
    some = np.linspace(0, height * width - 1, _TRIED, dtype=np.int64)
    own = np.unique(np.concatenate([corners, some]))
    found: Int64Array = (np.arange(images)[:, None] * (height * width) + own).ravel()
    return found

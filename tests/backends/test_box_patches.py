"""Boxes from the cells around them alone are those from the whole map."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolotrt.backends.box_patches import Patches

CHANNELS, INNER = 2, 3
Array = npt.NDArray[Any]

_rng = np.random.default_rng(0)
FIRST = _rng.normal(size=(9 * CHANNELS, INNER)).astype(np.float32)
SECOND = _rng.normal(size=(9 * INNER, 2)).astype(np.float32)


def layer(rows: Array, matrix: Array) -> Array:
    """A product, and an activation that is not zero at zero."""
    found: Array = np.cos(rows @ matrix)
    return found


def convolved(maps: Array, matrix: Array) -> Array:
    """Of maps `[N, h, w, C]`, that layer of the 3x3 cells around each, zeros around the whole."""
    _, height, width, _ = maps.shape
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [padded[:, y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return layer(np.concatenate(shifted, axis=3), matrix)


@st.composite
def chosen(draw: st.DrawFn) -> tuple[tuple[int, int, int], list[int]]:
    """(N, h, w) of maps, and some of their cells."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)))
    return shape, sorted(draw(st.sets(st.integers(0, int(np.prod(shape)) - 1))))


@settings(max_examples=200, deadline=None)
@given(chosen(), st.integers(0, 5))
def test_any_cells(sample: tuple[tuple[int, int, int], list[int]], spare: int) -> None:
    shape, cells = sample
    maps = np.random.default_rng(len(cells)).normal(size=(*shape, CHANNELS)).astype(np.float32)
    expected = convolved(convolved(maps, FIRST), SECOND).reshape(-1, 2)[cells]

    patches = Patches.around(np.array(cells, np.int64), shape)
    count = len(patches.reads) + spare
    first = layer(patches.rows(maps.reshape(-1, CHANNELS), count), FIRST)
    first = np.concatenate([first, np.zeros((1, INNER), np.float32)])
    near = patches.neighbours(len(cells) + spare, count)
    assert near.shape == (len(cells) + spare, 9)
    assert (near[len(cells) :] == count).all()
    found = layer(first[near].reshape(len(near), 9 * INNER), SECOND)[: len(cells)]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("cells", "reads"), [([], 0), ([0], 4), ([7], 9), ([6, 7], 12), ([0, 24], 8)])
def test_each_cell_is_read_once(cells: list[int], reads: int) -> None:
    assert len(Patches.around(np.array(cells, np.int64), (1, 5, 5)).reads) == reads

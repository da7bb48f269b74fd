"""Weights and pictures that are made once for all tests of the export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.weights import save_weights, write_pictures

Weights = Callable[[str], Path]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three pictures."""
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """Path of the weights of an Ultralytics configuration, made on first use."""
    folder = tmp_path_factory.mktemp("weights")

    def get(config: str) -> Path:
        path = folder / f"{config}.pt"
        return path if path.exists() else save_weights(path, config)

    return get

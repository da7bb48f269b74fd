"""For all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What yolotrt keeps is kept apart from what its user has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLOTRT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield

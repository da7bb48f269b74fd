"""For all tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest


def pytest_configure() -> None:
    # Shells start what runs in the background with Ctrl-C ignored, and so would be whatever a test starts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: the workers of `scripts/test`, which takes file by file, end together."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What yolotrt keeps is kept apart from what its user has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLOTRT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield

from __future__ import annotations

import gc

import pytest

from yolotrt.cli.short_pauses import short_pauses


def _interrupted(frozen: list[int]) -> None:
    with short_pauses():
        frozen.append(gc.get_freeze_count())
        raise KeyboardInterrupt


def test_what_is_there_is_passed_over_until_the_end() -> None:
    frozen: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        _interrupted(frozen)
    assert frozen[0] > 10_000, "the libraries alone are more"
    assert gc.get_freeze_count() == 0


class _Ring:
    def __init__(self) -> None:
        self.own = self


def test_garbage_of_before_is_not_kept_and_new_one_is_found() -> None:
    seen: list[str] = []

    class Told(_Ring):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def __del__(self) -> None:
            seen.append(self.name)

    Told("before")
    with short_pauses():
        assert seen == ["before"]
        Told("meanwhile")
        gc.collect()
        assert seen == ["before", "meanwhile"]

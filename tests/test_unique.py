from __future__ import annotations

from yolotrt.unique import unique


def test_names_are_taken_once() -> None:
    taken = {"c"}
    assert [unique(name, taken) for name in ("a", "a", "a-2", "a", "c", "b")] == [
        "a",
        "a-2",
        "a-2-2",
        "a-3",
        "c-2",
        "b",
    ]

from __future__ import annotations

import threading

from tests.support.media import picture
from tests.support.results import frame_result
from yolotrt.sinks.newest import Newest


def _numbers(newest: Newest, stream: str | None = None) -> list[tuple[str, int]]:
    """All that somebody who looks now gets."""
    found = []
    number = 0
    while (held := newest.get(stream, after=number, timeout_s=0)) is not None:
        number = held.number
        found.append((held.stream, held.result.frame.index))
    return found


def test_the_newest_of_each_stream_the_oldest_first() -> None:
    newest = Newest()
    for stream, index in [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2)]:
        newest.put(frame_result(picture(), stream, index=index))
    assert _numbers(newest) == [("b", 1), ("a", 2)]
    assert _numbers(newest, "a") == [("a", 2)]
    assert _numbers(newest, "c") == []
    assert newest.streams() == ["a", "b"]


def test_pictures_of_one_stream_take_one_place() -> None:
    newest = Newest(lambda r: "pictures" if r.frame.source_id.endswith(".png") else r.frame.source_id)
    for number in range(1000):
        newest.put(frame_result(picture(), f"{number}.png"))
    newest.put(frame_result(picture(), "v.mp4"))
    assert newest.streams() == ["pictures", "v.mp4"]


def test_the_end_wakes_who_waits() -> None:
    newest = Newest()
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.append(newest.get()))
    thread.start()
    newest.close()
    thread.join(10)
    assert got == [None]
    assert newest.closed

"""Read ahead: a thread that reads and decodes while the model runs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

from yolotrt.pipeline.channel import CancelledError, Channel

T = TypeVar("T")


def ahead_of(batch: int) -> int:
    """How many frames may wait: enough to even out slow ones and to fill a batch, and 100 MB at 4K for small ones."""
    return max(4, 2 * batch)


@contextlib.contextmanager
def prefetched(items: Iterable[T], *, capacity: int) -> Iterator[Channel[T]]:
    """Iterate over `items` in a thread of its own, at most `capacity` ahead of the consumer, until the block ends.

    What the iteration raises is raised by `Channel.take`, behind the last item.
    """
    channel: Channel[T] = Channel(capacity)
    thread = threading.Thread(target=feed, args=(channel, items), name="yolotrt-reader", daemon=True)
    thread.start()
    try:
        yield channel
    finally:
        channel.cancel()
        thread.join()


def feed(channel: Channel[T], items: Iterable[T]) -> None:
    """Put all items into a channel, and at the end what ended them."""
    # An error that nobody foresaw belongs to the consumer as well: it ends the run there, not only this thread.
    try:
        for item in items:
            channel.put(item)
    except CancelledError:
        return
    except BaseException as e:  # noqa: BLE001
        channel.finish(e)
    else:
        channel.finish()

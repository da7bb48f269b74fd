"""What `yolotrt val` and `yolotrt verify` show while they run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

from rich.markup import escape

from yolotrt.cli import interrupts, progress_bar


@contextlib.contextmanager
def progress(*names: str, total: int) -> Iterator[tuple[Callable[[], None], Callable[[Exception], None]]]:
    """A bar on standard error, if that is a terminal. Yields what to call per picture, and per problem to warn of.

    Args:
        names: of the passes over the pictures, one after the other.
        total: pictures of one pass.
    """
    bar = progress_bar.bar()
    tasks = [bar.add_task(escape(name), total=total) for name in names]
    done = 0

    def on_result() -> None:
        nonlocal done
        interrupts.check()
        bar.advance(tasks[min(done // max(total, 1), len(tasks) - 1)])
        done += 1

    with bar:
        yield on_result, partial(progress_bar.warn, bar)


def percent(value: float | None, digits: int = 1) -> str:
    """A share as per cent; a dash where there is none."""
    return "-" if value is None else f"{value * 100:.{digits}f}"

"""How long or how large a file may grow before the next one is begun."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from yolotrt.errors import UsageError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_BYTES = {"kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One of the two.

    Attributes:
        seconds: of what the file holds.
        size: in bytes.
    """

    seconds: float | None = None
    size: int | None = None

    @classmethod
    def parse(cls, text: str, *, option: str) -> Limit:
        """From `90s`, `10m`, `1h`, `1d`, or `500KB`, `500MB`, `2GB`, `2GiB`. Raises UsageError for anything else."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]+)", text.strip())
        number = float(found[1]) if found else 0.0
        unit = found[2] if found else ""
        if number > 0 and unit in _SECONDS:
            return cls(seconds=number * _SECONDS[unit])
        if number > 0 and unit.lower() in _BYTES:
            return cls(size=max(int(number * _BYTES[unit.lower()]), 1))
        raise UsageError(
            f"option {option} is neither a time nor a size", got=repr(text), expected="10m, 1h, 1d, 500MB or 2GB"
        )

    def reached(self, *, seconds: float, size: int) -> bool:
        """Whether a file that holds this much is full."""
        return (self.seconds is not None and seconds >= self.seconds) or (self.size is not None and size >= self.size)


def stamp(*, seconds_ago: float = 0.0) -> str:
    """The local time as part of a file's name: `20261123-064500`. Such names sort by time."""
    return (datetime.now().astimezone() - timedelta(seconds=seconds_ago)).strftime("%Y%m%d-%H%M%S")

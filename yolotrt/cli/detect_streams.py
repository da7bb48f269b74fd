"""The streams of one `yolotrt detect`: its sources, with what is done with each and where its results go."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from yolotrt.errors import ConfigError, UsageError
from yolotrt.pipeline import Stream
from yolotrt.sources import Source, is_live, open_source, open_sources
from yolotrt.sources.lists import is_list, listed
from yolotrt.unique import unique

if TYPE_CHECKING:
    from yolotrt.cli.detect_config import DetectConfig, StreamConfig
    from yolotrt.detector import Detector
    from yolotrt.pipeline.stream import Step
    from yolotrt.sinks import Outputs, Sink


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A source that is open, under the name of its stream; `config` is its entry in the YAML file, if it has one."""

    source: Source
    name: str
    config: StreamConfig | None = None


def open_all(named: tuple[str, ...], options: DetectConfig, stack: contextlib.ExitStack) -> list[Opened]:
    """Open the sources of the command line and of the YAML file; `stack` closes them.

    Raises UsageError where there are none.
    """
    if not named and not options.streams:
        raise UsageError("no SOURCE", expected="pictures, videos, cameras or addresses, or streams in --config")
    taken: set[str] = set()
    found = [
        Opened(source=stack.enter_context(source), name=unique(source.info.name, taken))
        for source in (open_sources(named, live=options.live) if named else ())
    ]
    for config in itertools.chain.from_iterable(map(_entries, options.streams)):
        source = stack.enter_context(open_source(config.url, live=options.live, name=config.name))
        name = unique(config.name or source.info.name, taken)
        if source.info.live and source.info.name != name:  # its frames carry its name; it is not connected yet
            source = stack.enter_context(open_source(config.url, live=options.live, name=name))
        found.append(Opened(source=source, name=name, config=config))
    return found


def _entries(config: StreamConfig) -> list[StreamConfig]:
    """An entry for each camera of a list; files alone are one stream, read one after the other."""
    if not isinstance(config.url, str) or not is_list(config.url):
        return [config]
    urls = listed(config.url)
    if (inner := next(filter(is_list, urls), None)) is not None:
        raise ConfigError(f"{config.url}: it names the list {inner}", expected="cameras, pictures and videos")
    if not any(map(is_live, urls)):
        return [config]
    if len(urls) > 1 and (config.name is not None or config.jsonl is not None):
        key = "name" if config.name is not None else "jsonl"
        raise ConfigError(f"{config.url}: its {len(urls)} sources cannot share the key {key!r}", remedy="Leave it out.")
    return [dataclasses.replace(config, url=url) for url in urls]


def make_streams(opened: list[Opened], detector: Detector, options: DetectConfig, outputs: Outputs) -> list[Stream]:
    """Streams with their own steps and sinks. Raises UsageError for a class that the model does not have."""
    # What may fail comes before the sinks, which empty older files.
    frames = [options.frames_of(found.config, detector) for found in opened]
    steps = [_steps(found, options) for found in opened]
    return [
        Stream(found.source, _own_sinks(found, name, outputs), name=found.name, options=of, steps=own)
        for found, name, of, own in zip(opened, file_names(opened), frames, steps, strict=True)
    ]


def _own_sinks(found: Opened, name: str | None, outputs: Outputs) -> list[Sink]:
    config = found.config
    if config is None:
        return outputs.of_stream(found.source, name)
    return outputs.of_stream(found.source, name, save=config.save, crops=config.crops, jsonl=config.jsonl)


def file_names(opened: list[Opened]) -> list[str | None]:
    """What the files of each stream begin with: its own name, or its whole address where the last part of that is not
    enough, since many cameras of one make have the same. None leaves it to the sinks.
    """
    parts = [found.name.rpartition("/")[2] for found in opened]
    count = Counter(part for part, found in zip(parts, opened, strict=True) if found.source.info.live)
    names: list[str | None] = []
    for part, found in zip(parts, opened, strict=True):
        is_named = found.config is not None and found.config.name is not None
        is_vague = found.source.info.live and (count[part] > 1 or not part)
        whole = found.name.partition("://")[2].strip("/") or found.name
        names.append(found.name if is_named else whole if is_vague else None)
    return names


def _steps(found: Opened, options: DetectConfig) -> list[Step]:
    """Tracking and counting, where they are asked for. Who counts must track."""
    counting = (found.config.counting if found.config is not None else None) or options.counting
    if options.track is None and counting is None:
        return []
    from yolotrt.counting import CountStep
    from yolotrt.tracking import TrackOptions, TrackStep

    track = TrackOptions(tracker=options.track or TrackOptions.tracker)
    steps: list[Step] = [TrackStep(track, found.source.info_of)]
    return [*steps, CountStep(counting)] if counting is not None else steps

"""The streams of one `yolotrt detect`: its sources, with what is done with each and where its results go."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from yolotrt.errors import UsageError
from yolotrt.pipeline import Stream
from yolotrt.sinks import AnnotatedSink, JsonLinesSink
from yolotrt.sinks.pictures import Names
from yolotrt.sources import Source, open_source, open_sources

if TYPE_CHECKING:
    from yolotrt.cli.detect_config import DetectConfig, StreamConfig
    from yolotrt.detector import Detector
    from yolotrt.sinks import Sink


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A source that is open, under the name of its stream; `config` is its entry in the YAML file, if it has one."""

    source: Source
    name: str
    config: StreamConfig | None = None


def open_all(named: tuple[str, ...], options: DetectConfig, stack: contextlib.ExitStack) -> list[Opened]:
    """Open the sources of the command line and of the YAML file; `stack` closes them.

    Raises UsageError where there are none, or one output would be written by two streams.
    """
    if not named and not options.streams:
        raise UsageError("no SOURCE", expected="pictures, videos, cameras or addresses, or streams in --config")
    taken: Counter[str] = Counter()

    def opened(source: Source, name: str, config: StreamConfig | None) -> Opened:
        taken[name] += 1
        unique = f"{name}-{taken[name]}" if taken[name] > 1 else name
        return Opened(source=stack.enter_context(source), name=unique, config=config)

    found = [opened(s, s.info.name, None) for s in (open_sources(named, live=options.live) if named else [])]
    for config in options.streams:
        source = open_source(config.url, live=options.live, name=config.name)
        found.append(opened(source, config.name or source.info.name, config))
    _refuse_shared_files([found.config.jsonl for found in found if found.config], options.jsonl)
    return found


def make_streams(opened: list[Opened], detector: Detector, options: DetectConfig) -> list[Stream]:
    """Streams with their own sinks. Raises UsageError for a class that the model does not have."""
    names: defaultdict[Path, Names] = defaultdict(Names)  # by folder
    return [
        Stream(
            found.source,
            _own_sinks(found, options, names),
            name=found.name,
            options=options.frames_of(found.config, detector),
        )
        for found in opened
    ]


def shared_sinks(opened: list[Opened], options: DetectConfig) -> list[Sink]:
    """The sinks that get the results of all streams."""
    if options.jsonl is None:
        return []
    return [_json_lines(options.jsonl, opened)]


def _own_sinks(found: Opened, options: DetectConfig, names: defaultdict[Path, Names]) -> list[Sink]:
    config = found.config
    sinks: list[Sink] = []
    folder = config.save if config is not None and config.save is not None else options.save
    if folder is not None:
        name = config.name if config is not None else None
        sinks.append(AnnotatedSink(folder, found.source, name=name, names=names[folder.resolve()]))
    if config is not None and config.jsonl is not None:
        sinks.append(_json_lines(config.jsonl, [found]))
    return sinks


def _json_lines(target: str, opened: list[Opened]) -> Sink:
    if target == "-":
        return JsonLinesSink(None)
    path = Path(target)
    if path.resolve() in {p.resolve() for found in opened for p in found.source.paths}:
        raise UsageError(f"--jsonl {path} is the source itself", expected="another file")
    return JsonLinesSink(path)


def _refuse_shared_files(own: list[str | None], shared: str | None) -> None:
    counts = Counter(Path(name).resolve() for name in [*own, shared] if name is not None)
    twice = [path for path, count in counts.items() if count > 1]
    if twice:
        raise UsageError(f"two streams would write to {twice[0]}", expected="a file for each, or one --jsonl for all")

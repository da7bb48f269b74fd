"""The sinks of one run, from options."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from yolotrt import files
from yolotrt.errors import UsageError
from yolotrt.sinks.annotated import AnnotatedOptions, AnnotatedSink
from yolotrt.sinks.base import Sink
from yolotrt.sinks.coco import CocoSink
from yolotrt.sinks.crops import CropsSink
from yolotrt.sinks.jsonl import JsonLinesSink
from yolotrt.sinks.limits import Limit
from yolotrt.sinks.mjpeg import MjpegSink
from yolotrt.sinks.newest import own_stream
from yolotrt.sinks.pictures import Names
from yolotrt.sinks.rtsp_push import RtspPushSink
from yolotrt.sinks.window import WindowSink
from yolotrt.sources.address import check_place
from yolotrt.sources.base import Source
from yolotrt.types import FrameResult
from yolotrt.unique import unique

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, kw_only=True)
class JsonLinesOptions:
    """How JSON lines are written: see `JsonLinesSink`."""

    append: bool = False
    rotate: Limit | None = None


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Where the results of a run go.

    Attributes:
        save: folder for annotated copies.
        annotated: how these are written.
        jsonl: file for one JSON object per frame of all streams; `-` is standard output.
        lines: how these are written.
        coco: file for COCO results.
        coco_like: annotations file whose ids these take.
        crops: folder for the boxes, cut out.
        show: in windows on this screen.
        restream: `http://[HOST]:PORT` to serve, or `rtsp://...` to publish to; it may hold a password.
    """

    save: Path | None = None
    annotated: AnnotatedOptions = field(default_factory=AnnotatedOptions)
    jsonl: str | None = None
    lines: JsonLinesOptions = field(default_factory=JsonLinesOptions)
    coco: Path | None = None
    coco_like: Path | None = None
    crops: Path | None = None
    show: bool = False
    restream: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.jsonl == "-" and self.lines != JsonLinesOptions():
            raise UsageError("--append and --jsonl-rotate need a file", got="--jsonl -")
        if self.coco_like is not None and self.coco is None:
            raise UsageError("--coco-like takes the ids for --coco, which is not given")
        if self.restream is not None:
            _check_restream(self.restream)


class Outputs:
    """Makes the sinks of one run. A context manager: at its end, those that no run has closed give up.

    Args:
        options: where results go.
        sources: by the names of their streams; no output takes the place of a file of theirs.
    """

    def __init__(self, options: OutputOptions, sources: Mapping[str, Source]) -> None:
        self._options, self._sources = options, dict(sources)
        self._names: defaultdict[Path, Names] = defaultdict(Names)  # by folder
        self._made: list[Sink] = []
        self._places = _places(self._sources)
        # Where all are called as their sources, `source` says whose line it is.
        self._named = any(name != source.info.name for name, source in self._sources.items())
        self.addresses: list[str] = []
        """Where the streams can be looked at."""

    def of_stream(
        self,
        source: Source,
        name: str | None = None,
        *,
        save: Path | None = None,
        crops: Path | None = None,
        jsonl: str | None = None,
    ) -> list[Sink]:
        """The sinks of one stream alone.

        Args:
            name: that the files of a live stream begin with; part of its address by default.
            save, crops: in place of those of all streams.
            jsonl: the file of this stream, beside the one of all.

        Raises:
            SinkError: something cannot be written.
            UsageError: an output would replace an input.
            MissingExtraError: an optional package is not installed.
        """
        made: list[Sink] = []
        folder = save or self._options.save
        if folder is not None:
            names = self._names[folder.resolve()]
            made.append(self._keep(AnnotatedSink(folder, source, self._options.annotated, name=name, names=names)))
        folder = crops or self._options.crops
        if folder is not None:
            names = self._names[folder.resolve()]
            made.append(self._keep(CropsSink(folder, source, name=name, names=names)))
        if jsonl is not None:
            made.append(self._keep(self._json_lines(jsonl)))
        return made

    def shared(self, on_closed: Callable[[], None]) -> list[Sink]:
        """The sinks that get the results of all streams; raises as `of_stream`.

        Args:
            on_closed: called, in any thread, when the user has closed a window.
        """
        made: list[Sink] = []
        options = self._options
        if options.coco is not None:
            made.append(
                self._keep(CocoSink(self._allowed(options.coco, "--coco"), like=options.coco_like, streams=self._named))
            )
        if options.restream is not None:
            made.append(self._keep(self._restream(options.restream)))
        if options.show:
            made.append(self._keep(WindowSink(on_closed, stream_of=self._stream_of)))
        if options.jsonl is not None:  # the last one, since it empties an older file
            made.append(self._keep(self._json_lines(options.jsonl)))
        return made

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sink in self._made:
            sink.abort()

    def _keep(self, sink: Sink) -> Sink:
        self._made.append(sink)
        return sink

    def _json_lines(self, target: str) -> Sink:
        if target == "-":
            return JsonLinesSink(None, streams=self._named)
        path, lines = self._allowed(Path(target), "--jsonl"), self._options.lines
        return JsonLinesSink(path, append=lines.append, rotate=lines.rotate, streams=self._named)

    def _restream(self, url: str) -> Sink:
        if url.startswith("http://"):
            sink = MjpegSink(_http_address(url), stream_of=self._stream_of)
            self.addresses.append(sink.url)
            return sink
        encoder = self._options.annotated.encoder
        return RtspPushSink(url, several=len(self._sources) > 1, encoder=encoder, stream_of=self._stream_of)

    def _stream_of(self, result: FrameResult) -> str:
        return self._places.get((result.stream, result.frame.source_id)) or own_stream(result)

    def _allowed(self, target: Path, option: str) -> Path:
        sources = ((path, "the source") for source in self._sources.values() for path in source.paths)
        files.refuse_input(target, f"{option} {target}", sources)
        return target


def _places(sources: Mapping[str, Source]) -> dict[tuple[str | None, str], str]:
    """Where each file of each stream is shown, by the stream's name and `Frame.source_id`.

    All pictures of a stream have one place, the videos that it reads one after the other have one each.
    """
    taken = set(sources)
    places: dict[tuple[str | None, str], str] = {}
    for stream, source in sources.items():
        for path in map(str, source.paths):
            alone = len(source.paths) == 1 or not source.info_of(path).moving
            if (stream, path) not in places:
                places[stream, path] = stream if alone else unique(path, taken)
    return places


def _check_restream(url: str) -> None:
    if url.startswith(("rtsp://", "rtsps://")):
        check_place(url, what="option restream")
    else:
        _http_address(url)


def _http_address(url: str) -> tuple[str, int]:
    """(host, port) of `http://[HOST]:PORT`; this machine alone where no host is named."""
    found = re.fullmatch(r"http://(\[[0-9a-fA-F:.]+\]|[^\[\]:/@]*):(\d{1,5})/?", url)
    if found is None or int(found[2]) > 65_535:
        # Not the address itself, which may hold a password.
        raise UsageError("option restream is no address", expected="http://:PORT, http://HOST:PORT or rtsp://HOST/PATH")
    return found[1].strip("[]") or "127.0.0.1", int(found[2])

"""The options of `yolotrt detect`, from the command line and from a YAML file."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from yolotrt.cli.config_file import read_config
from yolotrt.counting.options import CountOptions
from yolotrt.errors import ConfigError, UsageError
from yolotrt.files import is_standard_output
from yolotrt.options import DetectOptions, check_keys
from yolotrt.pipeline.stream import Region, StreamOptions
from yolotrt.sinks import JsonLinesOptions, OutputOptions
from yolotrt.sinks.annotated import AnnotatedOptions
from yolotrt.sinks.limits import Limit
from yolotrt.sources.address import scheme_of, with_environment, without_slips
from yolotrt.sources.decoders import check_choice, check_processes
from yolotrt.sources.live import LiveOptions, Transport

if TYPE_CHECKING:
    from yolotrt.detector import Detector
    from yolotrt.sinks.h264 import Encoder


@dataclass(frozen=True, kw_only=True)
class StreamConfig:
    """An entry of `streams` in the YAML file. What it leaves out is as for all streams.

    Attributes:
        url: an address, a webcam's number, a file or a folder.
        name: for people, in outputs and metrics; the address without credentials by default.
        fps, stride: as in `StreamOptions`.
        roi: the part of the picture to look at, [x1, y1, x2, y2] as shares from 0 to 1.
        conf, classes: as in `DetectConfig`.
        save: folder for annotated copies of this stream.
        crops: folder for the boxes of this stream, cut out.
        jsonl: file for the JSON lines of this stream alone.
        counting: the lines and zones of this camera.
    """

    url: str | int = field(repr=False)  # it may hold a password
    name: str | None = None
    fps: float | None = None
    stride: int | None = None
    roi: Region | None = None
    conf: float | None = None
    classes: tuple[int | str, ...] | None = None
    save: Path | None = None
    crops: Path | None = None
    jsonl: str | None = None
    counting: CountOptions | None = None

    def __post_init__(self) -> None:
        StreamOptions(fps=self.fps, stride=1 if self.stride is None else self.stride)
        if self.conf is not None:
            DetectOptions(conf=self.conf)


@dataclass(frozen=True, kw_only=True)
class DetectConfig:
    """Every option of the command; the YAML file has these keys, and `${NAME}` in its text is an environment variable.

    Attributes:
        streams: sources with options of their own, beside those of the command line.
        model: a file, a bundle, or None for the bundle exported last, else the demo model.
        conf, iou, max_det, agnostic: as in `DetectOptions`.
        classes: class ids or names to keep; None keeps all.
        device, backend, graphs, strict, trust: as in `Detector`.
        decoder, decode_processes: of videos, as in `Detector.decoders`.
        save: folder for annotated copies.
        jsonl: file for one JSON object per frame; `-` is standard output.
        json: print the summary as one JSON object on standard output.
        encoder, split: as in `AnnotatedOptions`; `split` is a time (10m) or a size (500MB).
        append: keep the lines that the file of `jsonl` holds.
        jsonl_rotate: begin another file after this time or at this size.
        coco: file for COCO results; `coco_like`: annotations file whose ids they take.
        crops: folder for the boxes, cut out.
        show: in windows on this screen.
        restream: serve pictures at http://[HOST]:PORT, or publish to rtsp://...
        metrics: [HOST:]PORT to serve Prometheus' metrics at.
        track: give objects numbers; the name of a tracker.
        counting: lines and zones to count at; objects are tracked then.
        fps, stride: as in `StreamOptions`.
        max_latency, retries, connect_timeout, read_timeout, rtsp_transport: as in `LiveOptions`, times in seconds.
    """

    streams: tuple[StreamConfig, ...] = ()
    model: str | None = None
    conf: float = DetectOptions.conf
    iou: float = DetectOptions.iou
    max_det: int = DetectOptions.max_det
    classes: tuple[int | str, ...] | None = None
    agnostic: bool = DetectOptions.agnostic
    device: str = "auto"
    backend: str = "auto"
    graphs: bool | None = None
    decoder: str = "auto"
    decode_processes: int | None = None
    strict: bool = False
    trust: bool = False
    save: Path | None = None
    jsonl: str | None = None
    json: bool = False
    encoder: str = AnnotatedOptions.encoder
    split: str | None = None
    append: bool = False
    jsonl_rotate: str | None = None
    coco: Path | None = None
    coco_like: Path | None = None
    crops: Path | None = None
    show: bool = False
    restream: str | None = field(default=None, repr=False)
    metrics: str | None = None
    track: str | None = None
    counting: CountOptions | None = None
    fps: float | None = None
    stride: int = 1
    max_latency: float = LiveOptions.max_latency_s
    retries: int | None = None
    connect_timeout: float = LiveOptions.connect_timeout_s
    read_timeout: float = LiveOptions.read_timeout_s
    rtsp_transport: str = LiveOptions.rtsp_transport

    def __post_init__(self) -> None:
        check_choice(self.decoder)
        check_processes(self.decode_processes)
        claims = {
            "--json": self.json,
            "--jsonl -": self.lines_to_stdout,
            f"--coco {self.coco}": self.coco is not None and is_standard_output(self.coco),
        }
        if len(both := [name for name, is_one in claims.items() if is_one]) > 1:
            raise UsageError(
                f"{both[0]} and {both[1]} both claim standard output", remedy="Give one a file, or leave it out."
            )
        StreamOptions(fps=self.fps, stride=self.stride)
        if self.metrics is not None:
            from yolotrt.metrics import parse_address

            parse_address(self.metrics, option="metrics")
        if self.track is not None:
            from yolotrt.tracking.make import check_tracker

            check_tracker(self.track)

    def _refuse_idle_options(self) -> None:
        """What would do nothing is not what was meant."""
        places: list[DetectConfig | StreamConfig] = [self, *self.streams]
        if (self.append or self.jsonl_rotate) and not any(place.jsonl for place in places):
            raise UsageError("--append and --jsonl-rotate are about the file of --jsonl, which is not given")
        if self.split and not any(place.save for place in places):
            raise UsageError("--split is about the videos of --save, which is not given")

    @property
    def lines_to_stdout(self) -> bool:
        """Whether standard output is for the lines of any stream."""
        return self.jsonl == "-" or any(stream.jsonl == "-" for stream in self.streams)

    @property
    def thresholds(self) -> DetectOptions:
        """The options of the decoding, without `classes`, whose names only the model can resolve."""
        return DetectOptions(conf=self.conf, iou=self.iou, max_det=self.max_det, agnostic=self.agnostic)

    @property
    def outputs(self) -> OutputOptions:
        """Where results go. Raises UsageError for what makes no sense."""
        split = AnnotatedOptions.split if self.split is None else Limit.parse(self.split, option="split")
        rotate = None if self.jsonl_rotate is None else Limit.parse(self.jsonl_rotate, option="jsonl-rotate")
        self._refuse_idle_options()
        return OutputOptions(
            save=self.save,
            annotated=AnnotatedOptions(encoder=cast("Encoder", self.encoder), split=split),
            jsonl=self.jsonl,
            lines=JsonLinesOptions(append=self.append, rotate=rotate),
            coco=self.coco,
            coco_like=self.coco_like,
            crops=self.crops,
            show=self.show,
            restream=self.restream,
        )

    @property
    def live(self) -> LiveOptions:
        """How cameras and network streams are read."""
        return LiveOptions(
            retries=self.retries,
            connect_timeout_s=self.connect_timeout,
            read_timeout_s=self.read_timeout,
            max_latency_s=self.max_latency,
            rtsp_transport=cast("Transport", self.rtsp_transport),  # checked there
        )

    def frames_of(self, stream: StreamConfig | None, detector: Detector) -> StreamOptions:
        """Which frames of a stream are used, and what is looked for in them; None for one of the command line.

        Raises UsageError for a class that the model does not have.
        """
        own = stream or StreamConfig(url="")
        differs = own.conf is not None or own.classes is not None
        return StreamOptions(
            fps=self.fps if own.fps is None else own.fps,
            stride=self.stride if own.stride is None else own.stride,
            roi=own.roi,
            detect=detector.options_with(conf=own.conf, classes=own.classes) if differs else None,
        )


def load(path: Path | None, given: Mapping[str, Any]) -> DetectConfig:
    """Merge a YAML file and the command line, which wins. Values of None in `given` were not given.

    Raises ConfigError for a file that is no YAML mapping, or has unknown keys or values of the wrong type.
    """
    values = _from_yaml(path) if path is not None else {}
    values |= {key: value for key, value in given.items() if value is not None}
    return DetectConfig(**_converted(values, str(path)))


def _from_yaml(path: Path) -> dict[str, Any]:
    data = read_config(path)
    streams = data.pop("streams", None) or []
    if not isinstance(streams, list):
        raise ConfigError(f"{path}: key 'streams' has a value of the wrong type", expected="a list of streams")
    values: dict[str, Any] = _expanded(_checked(DetectConfig, _port_as_text(data), str(path)), str(path))
    return values | ({"streams": tuple(_stream(s, f"{path}: stream {n}") for n, s in enumerate(streams, 1))})


def _stream(entry: object, where: str) -> StreamConfig:
    data = entry if isinstance(entry, dict) else {"url": entry}
    with _named(where):
        return _stream_of(_converted(_expanded(_checked(StreamConfig, data, where), where), where), where)


@contextlib.contextmanager
def _named(where: str) -> Iterator[None]:
    """Say of wrong values in which entry they are."""
    try:
        yield
    except UsageError as e:
        if e.what.startswith(where):
            raise
        raise ConfigError(f"{where}: {e.what}", got=e.got, expected=e.expected, remedy=e.remedy) from None


def _stream_of(values: dict[str, Any], where: str) -> StreamConfig:
    if not str(values.get("url", "")):
        raise ConfigError(f"{where}: no url", expected="an address, a webcam's number, a file or a folder")
    name = values.get("name")
    if name is not None and without_slips(name) != name:
        raise ConfigError(f"{where}: its name holds a password", expected="a name that may be shown")
    return StreamConfig(**values)


def _expanded(value: Any, where: str) -> Any:
    """With environment variables in all its text. After the check of the types, whose errors show what they got."""
    if isinstance(value, str):
        return with_environment(value, where=where)
    if isinstance(value, list):
        return [_expanded(item, where) for item in value]
    if isinstance(value, dict):
        return {key: _expanded(item, where) for key, item in value.items()}
    return value


def _port_as_text(data: dict[str, Any]) -> dict[str, Any]:
    port = data.get("metrics")
    is_number = isinstance(port, int) and not isinstance(port, bool)
    return data | {"metrics": str(port)} if is_number else data


def _checked(kind: type, data: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The given keys and values, which are those of a dataclass; nulls are left out."""
    check_keys(kind, data, where=where)
    for key, value in data.items():
        _check_type(kind, where, key, value)
    return {key: value for key, value in data.items() if value is not None}


def _converted(values: dict[str, Any], where: str) -> dict[str, Any]:
    for key in _NAMES_OF_FILES:
        if isinstance(values.get(key), str) and scheme_of(values[key]) is not None:  # not shown: it may hold a password
            remedy = "--restream publishes streams to a server." if key in ("save", "crops") else None
            raise UsageError(f"option {key} is an address", expected="a file or a folder", remedy=remedy)
    if "classes" in values:
        values["classes"] = _classes(values["classes"])
    if is_standard_output(Path(values.get("jsonl", ""))):  # by its name, it may be a file to empty
        values["jsonl"] = "-"
    for key in ("save", "crops", "coco", "coco_like"):
        if key in values:
            values[key] = Path(values[key])
    if "counting" in values:
        values["counting"] = CountOptions.from_config(values["counting"], where=where)
    if "roi" in values:
        values["roi"] = _region(values["roi"])
    return values


# By the annotation of the field. bool is an int to Python, yet no number to a reader of YAML.
_ACCEPTED: dict[str, tuple[tuple[type, ...], str]] = {
    "float": ((int, float), "a number"),
    "int": ((int,), "a whole number"),
    "bool": ((bool,), "true or false"),
    "str": ((str,), "text"),
    "str | int": ((str, int), "text, or a webcam's number"),
    "Path": ((str,), "a path"),
    "CountOptions": ((dict,), "lines and zones"),
    "Region": ((list,), "[x1, y1, x2, y2]"),
    "tuple[int | str, ...]": ((list, str, int), "a list of class names or ids"),
}


_NAMES_OF_FILES = ("model", "save", "jsonl", "coco", "coco_like", "crops")  # an empty one would be the current folder


def _check_type(kind: type, where: str, key: str, value: object) -> None:
    declared = str(next(f for f in dataclasses.fields(kind) if f.name == key).type)
    types, expected = _ACCEPTED[declared.removesuffix(" | None")]
    optional = declared.endswith("| None")
    if value is None and optional:
        return
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        got = None if key in ("url", "restream") else without_slips(repr(value))  # which may hold a password
        raise ConfigError(f"{where}: key {key!r} has a value of the wrong type", got=got, expected=expected)
    if value == "" and key in _NAMES_OF_FILES:
        raise ConfigError(f"{where}: key {key!r} is empty", expected="a path", remedy="Leave it out for none.")


def _region(corners: list[Any]) -> Region:
    if len(corners) != 4 or not all(isinstance(c, int | float) and not isinstance(c, bool) for c in corners):
        raise ConfigError("a region of interest is no rectangle", got=corners, expected="[x1, y1, x2, y2]")
    return Region(x1=corners[0], y1=corners[1], x2=corners[2], y2=corners[3])


def _classes(value: object) -> tuple[int | str, ...] | None:
    """Class ids or names: "0,2", "person, traffic light", or a list."""
    items = value if isinstance(value, list | tuple) else str(value).split(",")
    cleaned = tuple(item if isinstance(item, int) else str(item).strip() for item in items)
    if not cleaned or "" in cleaned:
        raise UsageError("option classes is empty", got=repr(value), expected="ids or names, comma separated")
    return cleaned

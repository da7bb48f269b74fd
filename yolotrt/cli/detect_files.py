"""The files of one `yolotrt detect`: none is written twice, or read and written. Found before anything is loaded."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from yolotrt import files
from yolotrt.errors import UsageError
from yolotrt.model_files import paths_read
from yolotrt.sinks import annotated, crops
from yolotrt.sinks.coco import images_beside
from yolotrt.sources.lists import is_list

if TYPE_CHECKING:
    from yolotrt.cli.detect_config import DetectConfig, StreamConfig
    from yolotrt.sources import Source


def refuse_shared(options: DetectConfig) -> None:
    """Raise UsageError where two outputs would be one file, of which only one would be left."""
    taken: dict[str, str] = {}
    for name, target in _written(options):
        place = os.path.realpath(target)
        if place in taken and name.startswith("--jsonl") and taken[place].startswith("--jsonl"):
            raise UsageError(f"two streams would write to {target}", expected="a file for each, or one --jsonl for all")
        if place in taken and not files.is_pipe_or_device(target):
            raise UsageError(f"{taken[place]} and {name} are one file", expected="a file for each")
        taken[place] = name


def refuse_inputs(
    options: DetectConfig, *, model: str, named: Sequence[str], sources: Sequence[Source], config: Path | None
) -> None:
    """Raise UsageError where an output would take the place of a file that the run reads.

    Args:
        model: the one to run, chosen by the user or for them.
        named: the sources of the command line, of which some may be lists.
        sources: all of them, open.
        config: the YAML file.
    """
    read = [path for source in sources for path in source.paths]
    inputs = [
        *((path, "the source") for path in read),
        *((path, "the model") for path in paths_read(model)),
        *((Path(name), "the list of sources") for name in _names(options, named) if is_list(name)),
        *((path, "the file of --config") for path in (config,) if path is not None),
        *((path, "the file of --coco-like") for path in (options.coco_like,) if path is not None),
    ]
    for name, target in _written(options):
        files.refuse_input(target, name, inputs)
    # A stream's own folder may be where another one reads.
    places: list[DetectConfig | StreamConfig] = [options, *options.streams]
    for folder in {place.save for place in places if place.save is not None}:
        annotated.refuse_own_folder(folder, read)
    for folder in {place.crops for place in places if place.crops is not None}:
        crops.refuse_own_folder(folder, read)


def _names(options: DetectConfig, named: Sequence[str]) -> Iterator[str]:
    return itertools.chain(named, (str(stream.url) for stream in options.streams))


def _written(options: DetectConfig) -> Iterator[tuple[str, Path]]:
    """Each single file that results go to, with its name to the user."""
    for lines in (options.jsonl, *(stream.jsonl for stream in options.streams)):
        if lines is not None:
            yield f"--jsonl {lines}", files.STANDARD_OUTPUT if lines == "-" else Path(lines)
    if options.coco is not None:
        yield f"--coco {options.coco}", options.coco
        if (images := images_beside(options.coco)) is not None:
            yield f"{images}, the pictures of --coco {options.coco},", images

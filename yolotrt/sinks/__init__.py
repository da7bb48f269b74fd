"""Where results go. Adding a kind: a module here with a `Sink`."""

from __future__ import annotations

from yolotrt.sinks.annotated import AnnotatedSink
from yolotrt.sinks.base import Sink
from yolotrt.sinks.coco import CocoSink
from yolotrt.sinks.crops import CropsSink
from yolotrt.sinks.jsonl import JsonLinesSink
from yolotrt.sinks.make import JsonLinesOptions, OutputOptions, Outputs
from yolotrt.sinks.mjpeg import MjpegSink
from yolotrt.sinks.rtsp_push import RtspPushSink
from yolotrt.sinks.window import WindowSink

__all__ = [
    "AnnotatedSink",
    "CocoSink",
    "CropsSink",
    "JsonLinesOptions",
    "JsonLinesSink",
    "MjpegSink",
    "OutputOptions",
    "Outputs",
    "RtspPushSink",
    "Sink",
    "WindowSink",
]

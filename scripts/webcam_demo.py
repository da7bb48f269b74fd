"""Boxes on a webcam's pictures, in a window; q ends it.

    python scripts/webcam_demo.py [CAMERA] [MODEL]

CAMERA is a number (0 is the first one), an address or a video file; MODEL anything that `yolotrt detect` takes.
"""

from __future__ import annotations

import sys
import threading

from yolotrt import Detector, YolotrtError
from yolotrt.assets import demo_model
from yolotrt.sinks import WindowSink


def main(camera: str = "0", model: str | None = None) -> None:
    """Show `camera` with the boxes of `model` until its window is closed."""
    closed = threading.Event()
    with Detector(model or demo_model()) as detector:
        window = WindowSink(closed.set)
        try:
            for result in detector.stream(camera):
                window.write(result)
                if closed.is_set():
                    break
        finally:
            window.close()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except YolotrtError as e:
        sys.exit(f"Error: {e}")

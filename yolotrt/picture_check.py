"""Whether an array that a caller gives is a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from yolotrt.errors import UsageError, YolotrtError

_EXPECTED = "uint8 (H, W, 3) in BGR"


def check_picture(given: object, *, error: type[YolotrtError] = UsageError) -> None:
    """Raise `error` for what is no picture, BGR `uint8 [H, W, 3]`, with what makes one of it."""
    if not isinstance(given, np.ndarray):
        raise error(
            "not a picture",
            got=f"an object of type {type(given).__name__}",
            expected=f"an array, {_EXPECTED}",
            remedy="Pictures are as cv2.imread gives them.",
        )
    if given.dtype != np.uint8 or given.ndim != 3 or given.shape[2] != 3 or 0 in given.shape:
        got = f"an array of {given.dtype} {given.shape}"
        raise error("not a picture", got=got, expected=_EXPECTED, remedy=_remedy(given))


def _remedy(array: npt.NDArray[Any]) -> str | None:
    if 0 in array.shape:
        return None
    if array.dtype != np.uint8:
        scaled = "(255 * image).astype(numpy.uint8), if its values go from 0 to 1"
        return f"Scale its values to 0 to 255 and convert them to uint8: {scaled}."
    if array.ndim == 2 or array.shape[2:] == (1,):
        return "Convert it with cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)."
    if array.shape[2:] == (4,):
        return "Convert it with cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)."
    if array.ndim == 3 and array.shape[0] == 3:
        return "Put the channels last: image.transpose(1, 2, 0)."
    return "Pictures are as cv2.imread gives them, and given one by one or in a list."

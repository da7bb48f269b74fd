"""Model descriptions for tests."""

from __future__ import annotations

from yolotrt.model_spec import BatchRange, Head, LetterboxRule, ModelSpec, TensorSpec


def make_spec(
    *,
    head: Head = "anchor_free",
    names: tuple[str, ...] = ("red", "green", "blue"),
    imgsz: tuple[int, int] = (64, 64),
    shape: tuple[int | None, ...] | None = None,
    output_shape: tuple[int | None, ...] = (1, 7, 16),
    dtype: str = "float32",
    letterbox: LetterboxRule | None = None,
    batch: BatchRange | None = None,
) -> ModelSpec:
    """A detection model with one input and one output."""
    return ModelSpec(
        head=head,
        names=names,
        imgsz=imgsz,
        batch=batch or BatchRange(min=1, opt=1, max=8),
        letterbox=letterbox or LetterboxRule(),
        input=TensorSpec(name="images", dtype=dtype, shape=shape or (None, 3, *imgsz)),
        outputs=(TensorSpec(name="output0", dtype="float32", shape=output_shape),),
    )

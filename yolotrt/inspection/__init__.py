"""What a model file is, and what can run it here: the logic of `yolotrt inspect`.

Reading order: `report` (the result), `inspect` (how it is put together), then `onnx_layers`, `plan_layers` (precision
per layer), `runners` (what runs it here) and `view` (how it is shown).
"""

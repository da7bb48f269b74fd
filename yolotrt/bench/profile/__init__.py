"""Where the time of an inference goes, layer by layer: the logic of `yolotrt profile`.

Reading order: `report` (the result), `profile` (how it is put together), `onnx_runtime`, `openvino_`, `tensorrt` (what
each runtime tells), `names` (back to the nodes of the ONNX graph), `trace` and `view`.
"""

"""A stand-in for TensorRT-RTX over ONNX Runtime, for rehearsals of what needs a GPU."""

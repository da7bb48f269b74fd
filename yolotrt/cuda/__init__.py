"""CUDA, one module per noun: device, stream, memory; `machine` is all that a batch needs of a GPU, and `gpu` gives it.

The only package that touches `cuda.core` and `cuda.bindings`.

Everything runs in the primary context of a device, the one PyTorch and the CUDA runtime use too, and the context that
was current before stays current after: see `yolotrt.cuda.device.Device.active`.
"""

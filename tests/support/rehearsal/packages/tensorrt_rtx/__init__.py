"""A stand-in for TensorRT-RTX: plans hold their ONNX graph, and inference is ONNX Runtime, queued in a CUDA stream.

With the driver of `tests/support/cuda_host` below it, what needs a GPU is rehearsed without one: the calls, their order
and who waits for whom are real, the figures mean nothing. What TensorRT itself says and refuses is not imitated.
`tests/conformance` holds the names to the real bindings.
"""

from __future__ import annotations

import ctypes
import enum
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

__version__ = "1.7.1.116"
_HEADER = struct.Struct("<4s12xQ4B4xQ")
_GPUS = 0b1111
_KINDS = {"tensor(float)": "FLOAT", "tensor(float16)": "HALF", "tensor(int64)": "INT64", "tensor(int32)": "INT32"}


def _enum(name: str, *members: str) -> Any:
    return enum.Enum(name, {member: i for i, member in enumerate(members)}, type=_Member)


class _Member(int):
    """Members of pybind11's enums are not numbers, but turn into them."""


BuilderFlag = _enum("BuilderFlag", "REFIT", "STRIP_PLAN", "VERSION_COMPATIBLE")
NetworkDefinitionCreationFlag = _enum("NetworkDefinitionCreationFlag", "STRONGLY_TYPED")
HardwareCompatibilityLevel = _enum("HardwareCompatibilityLevel", "AMPERE_PLUS")
MemoryPoolType = _enum("MemoryPoolType", "WORKSPACE")
EngineStat = _enum("EngineStat", "STRIPPED_WEIGHTS_SIZE")
TensorIOMode = _enum("TensorIOMode", "INPUT", "OUTPUT")
DataType = _enum("DataType", *_KINDS.values())
ComputeCapability = _enum("ComputeCapability", "NONE", "CURRENT", "SM75", "SM80", "SM86", "SM89", "SM120")
EngineValidity = _enum("EngineValidity", "VALID", "INVALID")
ProfilingVerbosity = _enum("ProfilingVerbosity", "DETAILED")
LayerInformationFormat = _enum("LayerInformationFormat", "JSON")
ExecutionContextAllocationStrategy = _enum("ExecutionContextAllocationStrategy", "STATIC", "USER_MANAGED")
DynamicShapesKernelSpecializationStrategy = _enum("DynamicShapesKernelSpecializationStrategy", "LAZY", "EAGER")
EngineInvalidityDiagnostics = enum.Enum(
    "EngineInvalidityDiagnostics",
    {"VERSION_MISMATCH": 1, "UNSUPPORTED_CC": 2, "OLD_CUDA_DRIVER": 4, "OLD_CUDA_RUNTIME": 8},
    type=_Member,
)


class ILogger:
    Severity = _enum("Severity", "INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")

    def __init__(self) -> None:
        """pybind11 wants it called."""

    def log(self, severity: Any, msg: str) -> None:
        raise NotImplementedError


class IProfiler:
    def __init__(self) -> None:
        """pybind11 wants it called."""


class _Tensor:
    def __init__(self, found: Any, mode: Any) -> None:
        self.name, self.mode = found.name, mode
        self.dtype = DataType[_KINDS[found.type]]
        self.shape = tuple(side if isinstance(side, int) else -1 for side in found.shape)


def _session(graph: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


class _Network:
    graph = b""
    inputs: Sequence[_Tensor] = ()
    num_inputs = num_outputs = num_layers = 0

    def get_input(self, index: int) -> _Tensor:
        return self.inputs[index]


class _ParserError:
    def __init__(self, text: str) -> None:
        self._text = text

    def desc(self) -> str:
        return self._text

    def node(self) -> int:
        return -1

    def node_name(self) -> str:
        return ""

    node_operator = node_name


class OnnxParser:
    def __init__(self, network: _Network, logger: ILogger) -> None:
        self._network, self._errors = network, []  # type: tuple[_Network, list[str]]

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> _ParserError:
        return _ParserError(self._errors[index])

    def parse_from_file(self, model: str) -> bool:
        try:
            graph = Path(model).read_bytes()
            session = _session(graph)
        except Exception as e:  # noqa: BLE001 - it has many
            self._errors.append(" ".join(str(e).split()))
            return False
        network = self._network
        network.graph = graph
        network.inputs = [_Tensor(i, TensorIOMode.INPUT) for i in session.get_inputs()]
        network.num_inputs, network.num_outputs = len(network.inputs), len(session.get_outputs())
        network.num_layers = len(onnx.load_from_string(graph).graph.node)
        return True


class _Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[list[int]]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002
        self.shapes[input] = [list(min), list(opt), list(max)]


class _Config:
    builder_optimization_level = 3
    hardware_compatibility_level = profiling_verbosity = None
    num_compute_capabilities = 0

    def __init__(self) -> None:
        self.flags: set[str] = set()
        self.profile: dict[str, list[list[int]]] = {}

    def add_optimization_profile(self, profile: _Profile) -> int:
        self.profile = profile.shapes
        return 0

    def set_flag(self, flag: Any) -> None:
        self.flags.add(flag.name)

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        """Nothing is limited."""

    def set_compute_capability(self, compute_capability: Any, index: int) -> bool:
        return True


class Builder:
    def __init__(self, logger: ILogger) -> None:
        """Knows nothing."""

    def create_network(self, flags: int) -> _Network:
        return _Network()

    def create_builder_config(self) -> _Config:
        return _Config()

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: _Network, config: _Config) -> bytes:
        stripped = "STRIP_PLAN" in config.flags
        graph = b"" if stripped else network.graph
        told = {"profile": config.profile, "refittable": "REFIT" in config.flags or stripped, "stripped": stripped}
        if stripped:
            told["ins"] = [(t.name, t.dtype.name, t.shape) for t in network.inputs]
        text = json.dumps(told).encode()
        body = struct.pack("<I", len(text)) + text + graph
        version = [int(part) for part in __version__.split(".")]
        return _HEADER.pack(b"vtrt", _HEADER.size + len(body), *version, _GPUS) + body


class _RuntimeCache:
    def serialize(self) -> bytes:
        return b"kernels"

    def deserialize(self, blob: Any) -> bool:
        return bytes(blob) == b"kernels"


class _RuntimeConfig:
    dynamic_shapes_kernel_specialization_strategy = None
    user_managed = False

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self.user_managed = strategy is ExecutionContextAllocationStrategy.USER_MANAGED

    def create_runtime_cache(self) -> _RuntimeCache:
        return _RuntimeCache()

    def set_runtime_cache(self, cache: _RuntimeCache) -> bool:
        return True


def _name(node: onnx.NodeProto) -> str:
    return node.name or node.output[0]


def _layer(node: onnx.NodeProto) -> dict[str, str]:
    metadata = f"[ONNX Layer: {_name(node)}]"
    return {"Name": _name(node), "LayerType": node.op_type, "TacticName": "host", "Metadata": metadata}


class _Inspector:
    def __init__(self, graph: bytes) -> None:
        self._graph = graph

    def get_engine_information(self, format: Any) -> str:  # noqa: A002
        layers = [_layer(n) for n in onnx.load_from_string(self._graph).graph.node]
        return json.dumps({"Layers": layers})


class _Engine:
    device_memory_size_v2 = 4096
    num_aux_streams = 2

    def __init__(self, told: dict[str, Any], graph: bytes, logger: ILogger) -> None:
        self.logger, self.refittable = logger, told["refittable"]
        self.profile: dict[str, list[list[int]]] = told["profile"]
        self.fill(graph)

    def fill(self, graph: bytes) -> None:
        self.graph = graph
        self.tensors: dict[str, _Tensor] = {}
        self.session: Any = None
        if graph:
            self.session = _session(graph)
            found = [_Tensor(i, TensorIOMode.INPUT) for i in self.session.get_inputs()]
            found += [_Tensor(o, TensorIOMode.OUTPUT) for o in self.session.get_outputs()]
            self.tensors = {tensor.name: tensor for tensor in found}

    @property
    def num_io_tensors(self) -> int:
        return len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> Any:
        return self.tensors[name].mode

    def get_tensor_dtype(self, name: str) -> Any:
        return self.tensors[name].dtype

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name].shape

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[list[int]]:
        return self.profile[name]

    def get_engine_stat(self, stat: Any) -> int:
        return 0 if self.graph else 1

    def create_engine_inspector(self) -> _Inspector:
        return _Inspector(self.graph)

    def create_runtime_config(self) -> _RuntimeConfig:
        return _RuntimeConfig()

    def create_execution_context(self, runtime_config: _RuntimeConfig | None = None) -> _Context:
        return _Context(self, bool(runtime_config and runtime_config.user_managed))


_Function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_DTYPES = {"FLOAT": np.float32, "HALF": np.float16, "INT64": np.int64, "INT32": np.int32}


class _Context:
    profiler: Any = None

    def __init__(self, engine: _Engine, user_managed: bool) -> None:
        self._engine, self._needs_memory = engine, user_managed
        self._addresses: dict[str, int] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._kept: list[Any] = []

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        shape = tuple(shape)
        own = self._engine.tensors[name].shape
        profile = self._engine.profile.get(name)
        fits = len(shape) == len(own) and all(b in (-1, a) for a, b in zip(shape, own, strict=True))
        if fits and profile:
            fits = all(low <= side <= high for low, side, high in zip(profile[0], shape, profile[2], strict=True))
        if not fits:
            return self._refuse(f"IExecutionContext::setInputShape: shape {shape} is out of range")
        self._shapes = {name: shape}
        inputs = {name: np.zeros(shape, _DTYPES[self._engine.tensors[name].dtype.name])}
        names = [t.name for t in self._engine.tensors.values() if t.mode is TensorIOMode.OUTPUT]
        for output, value in zip(names, self._engine.session.run(names, inputs), strict=True):
            self._shapes[output] = value.shape
        return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._shapes.get(name) or self._engine.tensors[name].shape

    def set_device_memory(self, memory: int, size: int) -> None:
        self._needs_memory = size < self._engine.device_memory_size_v2

    def set_aux_streams(self, aux_streams: Sequence[int]) -> None:
        assert len(set(aux_streams)) == len(aux_streams) == self._engine.num_aux_streams
        assert all(aux_streams), "the default stream is none of them"

    def execute_async_v3(self, stream_handle: int) -> bool:
        from cuda.bindings import driver

        for name, tensor in self._engine.tensors.items():
            if name not in self._shapes and -1 not in tensor.shape:
                self._shapes[name] = tensor.shape
        if self._needs_memory or self._addresses.keys() != self._engine.tensors.keys():
            return self._refuse("IExecutionContext::enqueueV3: no memory was set")
        addresses, shapes, engine = dict(self._addresses), dict(self._shapes), self._engine

        def at(name: str) -> Any:
            dtype = np.dtype(_DTYPES[engine.tensors[name].dtype.name])
            size = int(np.prod(shapes[name])) * dtype.itemsize
            raw = memoryview((ctypes.c_ubyte * size).from_address(addresses[name]))
            return np.frombuffer(raw, dtype).reshape(shapes[name])

        def run(_: int) -> None:
            ins = {n: at(n) for n, t in engine.tensors.items() if t.mode is TensorIOMode.INPUT}
            outs = [n for n, t in engine.tensors.items() if t.mode is TensorIOMode.OUTPUT]
            for name, value in zip(outs, engine.session.run(outs, ins), strict=True):
                np.copyto(at(name), value)

        function = _Function(run)
        self._kept.append(function)
        address = ctypes.cast(function, ctypes.c_void_p).value
        (code,) = driver.cuLaunchHostFunc(stream_handle, driver.CUhostFn(address), 0)
        if self.profiler is not None:
            for node in onnx.load_from_string(engine.graph).graph.node:
                self.profiler.report_layer_time(_name(node), 0.01)
        return int(code) == 0 or self._refuse(f"cudaError {int(code)}")

    def _refuse(self, text: str) -> bool:
        self._engine.logger.log(ILogger.Severity.ERROR, text)
        return False


class Runtime:
    engine_host_code_allowed = False

    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine: Any) -> _Engine | None:
        data = bytes(serialized_engine)
        try:
            (length,) = struct.unpack_from("<I", data, _HEADER.size)
            start = _HEADER.size + 4
            return _Engine(json.loads(data[start : start + length]), data[start + length :], self._logger)
        except Exception as e:  # noqa: BLE001 - a damaged plan is anything
            text = f"IRuntime::deserializeCudaEngine: Error Code 1: Serialization ({e})"
            self._logger.log(ILogger.Severity.ERROR, text)
            return None

    def get_engine_validity(self, buffer: Any) -> tuple[Any, int]:
        return EngineValidity.VALID, 0


class Refitter:
    def __init__(self, engine: _Engine, logger: ILogger) -> None:
        self.engine = engine

    def refit_cuda_engine(self) -> bool:
        return bool(self.engine.graph)


class OnnxParserRefitter:
    def __init__(self, refitter: Refitter, logger: ILogger) -> None:
        self._engine = refitter.engine

    def refit_from_file(self, model: str) -> bool:
        self._engine.fill(Path(model).read_bytes())
        return True

"""The part of TensorRT's Python API that yolotrt uses, as typed protocols.

Every TensorRT object in this package has one of these types, so mypy refuses a name that is not written down here;
`tests/conformance` checks every name, argument and enum member written down here against the real bindings of
TensorRT 10 and 11 and of TensorRT-RTX. Names and argument names are TensorRT's own.

`ONLY` names what some flavours lack; `yolotrt.backends.flavours` holds the capabilities that guard their use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

Bytes = bytes | bytearray | memoryview

BUILDERS = frozenset({"tensorrt", "tensorrt_rtx"})
ALL = frozenset({"tensorrt", "tensorrt_rtx", "tensorrt_lean", "tensorrt_dispatch"})


class EnumMember(Protocol):
    """A member of a pybind11 enum."""

    @property
    def name(self) -> str: ...

    def __int__(self) -> int: ...


class Severity(Protocol):
    INTERNAL_ERROR: EnumMember
    ERROR: EnumMember
    WARNING: EnumMember
    INFO: EnumMember
    VERBOSE: EnumMember


class BuilderFlag(Protocol):
    REFIT: EnumMember
    STRIP_PLAN: EnumMember
    VERSION_COMPATIBLE: EnumMember


class NetworkDefinitionCreationFlag(Protocol):
    STRONGLY_TYPED: EnumMember


class HardwareCompatibilityLevel(Protocol):
    AMPERE_PLUS: EnumMember


class MemoryPoolType(Protocol):
    WORKSPACE: EnumMember


class EngineStat(Protocol):
    STRIPPED_WEIGHTS_SIZE: EnumMember


class TensorIOMode(Protocol):
    INPUT: EnumMember
    OUTPUT: EnumMember


class ComputeCapability(Protocol):
    """GPUs that TensorRT-RTX can build for: `SM86` and so on, listed by `__members__`."""

    __members__: dict[str, EnumMember]


class EngineInvalidityDiagnostics(Protocol):
    VERSION_MISMATCH: EnumMember
    UNSUPPORTED_CC: EnumMember
    OLD_CUDA_DRIVER: EnumMember
    OLD_CUDA_RUNTIME: EnumMember


class ILogger(Protocol):
    Severity: type[Severity]

    def log(self, severity: EnumMember, msg: str) -> None: ...


class ITensor(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> Sequence[int]: ...


class INetworkDefinition(Protocol):
    @property
    def num_inputs(self) -> int: ...

    @property
    def num_outputs(self) -> int: ...

    @property
    def num_layers(self) -> int: ...

    def get_input(self, index: int) -> ITensor: ...


class IOptimizationProfile(Protocol):
    def set_shape(
        self,
        input: str,  # noqa: A002
        min: Sequence[int],  # noqa: A002
        opt: Sequence[int],
        max: Sequence[int],  # noqa: A002
    ) -> None: ...


class IHostMemory(Protocol):
    """A serialized plan or cache."""

    def __buffer__(self, flags: int, /) -> memoryview: ...


class ITimingCache(Protocol):
    def serialize(self) -> IHostMemory: ...


class IBuilderConfig(Protocol):
    builder_optimization_level: int
    hardware_compatibility_level: EnumMember
    num_compute_capabilities: int
    profiling_verbosity: EnumMember

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int: ...

    def set_flag(self, flag: EnumMember) -> None: ...

    def set_memory_pool_limit(self, pool: EnumMember, pool_size: int) -> None: ...

    def set_compute_capability(self, compute_capability: EnumMember, index: int) -> bool: ...

    def create_timing_cache(self, serialized_timing_cache: Bytes) -> ITimingCache | None: ...

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool: ...

    def get_timing_cache(self) -> ITimingCache | None: ...


class Builder(Protocol):
    def __init__(self, logger: ILogger) -> None: ...

    def create_network(self, flags: int) -> INetworkDefinition: ...

    def create_builder_config(self) -> IBuilderConfig: ...

    def create_optimization_profile(self) -> IOptimizationProfile: ...

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None: ...


class ParserError(Protocol):
    def desc(self) -> str: ...

    def node(self) -> int: ...

    def node_name(self) -> str: ...

    def node_operator(self) -> str: ...


class OnnxParser(Protocol):
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None: ...

    @property
    def num_errors(self) -> int: ...

    def parse_from_file(self, model: str) -> bool: ...

    def get_error(self, index: int) -> ParserError: ...


class IProfiler(Protocol):
    """Is told the time of each layer."""

    def __init__(self) -> None: ...

    def report_layer_time(self, layer_name: str, ms: float) -> None: ...


class ExecutionContextAllocationStrategy(Protocol):
    USER_MANAGED: EnumMember


class DynamicShapesKernelSpecializationStrategy(Protocol):
    EAGER: EnumMember


class IRuntimeCache(Protocol):
    """Kernels that TensorRT-RTX compiled for this GPU."""

    def serialize(self) -> IHostMemory: ...

    def deserialize(self, blob: Bytes) -> bool: ...


class IRuntimeConfig(Protocol):
    dynamic_shapes_kernel_specialization_strategy: EnumMember

    def set_execution_context_allocation_strategy(self, strategy: EnumMember) -> None: ...

    def create_runtime_cache(self) -> IRuntimeCache: ...

    def set_runtime_cache(self, cache: IRuntimeCache) -> bool: ...


class IExecutionContext(Protocol):
    profiler: IProfiler

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool: ...

    def set_tensor_address(self, name: str, memory: int) -> bool: ...

    def get_tensor_shape(self, name: str) -> Sequence[int]: ...

    def set_device_memory(self, memory: int, size: int) -> None: ...

    def set_aux_streams(self, aux_streams: Sequence[int]) -> None: ...

    def execute_async_v3(self, stream_handle: int) -> bool: ...


class ProfilingVerbosity(Protocol):
    DETAILED: EnumMember


class LayerInformationFormat(Protocol):
    JSON: EnumMember


class EngineInspector(Protocol):
    def get_engine_information(self, format: EnumMember) -> str: ...  # noqa: A002


class ICudaEngine(Protocol):
    @property
    def num_io_tensors(self) -> int: ...

    @property
    def refittable(self) -> bool: ...

    @property
    def device_memory_size_v2(self) -> int: ...

    @property
    def num_aux_streams(self) -> int: ...

    def get_tensor_name(self, index: int) -> str: ...

    def get_tensor_mode(self, name: str) -> EnumMember: ...

    def get_tensor_dtype(self, name: str) -> EnumMember: ...

    def get_tensor_shape(self, name: str) -> Sequence[int]: ...

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> Sequence[Sequence[int]]: ...

    def get_engine_stat(self, stat: EnumMember) -> int: ...

    def create_engine_inspector(self) -> EngineInspector: ...

    def create_runtime_config(self) -> IRuntimeConfig: ...

    def create_execution_context(self, runtime_config: IRuntimeConfig = ...) -> IExecutionContext | None: ...


class Runtime(Protocol):
    engine_host_code_allowed: bool

    def __init__(self, logger: ILogger) -> None: ...

    def deserialize_cuda_engine(self, serialized_engine: Bytes) -> ICudaEngine | None: ...

    def get_engine_validity(self, buffer: Bytes) -> tuple[EnumMember, int]: ...


class Refitter(Protocol):
    def __init__(self, engine: ICudaEngine, logger: ILogger) -> None: ...

    def refit_cuda_engine(self) -> bool: ...


class OnnxParserRefitter(Protocol):
    def __init__(self, refitter: Refitter, logger: ILogger) -> None: ...

    def refit_from_file(self, model: str) -> bool: ...


# Inside the next class the names of its own attributes hide the protocols.
_Builder: TypeAlias = Builder
_OnnxParser: TypeAlias = OnnxParser
_Runtime: TypeAlias = Runtime
_Refitter: TypeAlias = Refitter
_OnnxParserRefitter: TypeAlias = OnnxParserRefitter
_BuilderFlag: TypeAlias = BuilderFlag
_NetworkDefinitionCreationFlag: TypeAlias = NetworkDefinitionCreationFlag
_HardwareCompatibilityLevel: TypeAlias = HardwareCompatibilityLevel
_MemoryPoolType: TypeAlias = MemoryPoolType
_EngineStat: TypeAlias = EngineStat
_TensorIOMode: TypeAlias = TensorIOMode
_ComputeCapability: TypeAlias = ComputeCapability
_EngineInvalidityDiagnostics: TypeAlias = EngineInvalidityDiagnostics
_ProfilingVerbosity: TypeAlias = ProfilingVerbosity
_LayerInformationFormat: TypeAlias = LayerInformationFormat
_ExecutionContextAllocationStrategy: TypeAlias = ExecutionContextAllocationStrategy
_DynamicShapesKernelSpecializationStrategy: TypeAlias = DynamicShapesKernelSpecializationStrategy


class TensorRT(Protocol):
    """The imported module of a flavour."""

    __version__: str

    # Classes that are called.
    Builder: type[_Builder]
    OnnxParser: type[_OnnxParser]
    Runtime: type[_Runtime]
    Refitter: type[_Refitter]
    OnnxParserRefitter: type[_OnnxParserRefitter]
    # Base classes; `Any` because a class cannot derive from a variable's type.
    ILogger: Any
    IProfiler: Any
    # Enums.
    BuilderFlag: type[_BuilderFlag]
    NetworkDefinitionCreationFlag: type[_NetworkDefinitionCreationFlag]
    HardwareCompatibilityLevel: type[_HardwareCompatibilityLevel]
    MemoryPoolType: type[_MemoryPoolType]
    EngineStat: type[_EngineStat]
    TensorIOMode: type[_TensorIOMode]
    ComputeCapability: type[_ComputeCapability]
    EngineInvalidityDiagnostics: type[_EngineInvalidityDiagnostics]
    ProfilingVerbosity: type[_ProfilingVerbosity]
    LayerInformationFormat: type[_LayerInformationFormat]
    ExecutionContextAllocationStrategy: type[_ExecutionContextAllocationStrategy]
    DynamicShapesKernelSpecializationStrategy: type[_DynamicShapesKernelSpecializationStrategy]


ONLY: dict[str, frozenset[str]] = {
    **dict.fromkeys(
        (
            "Builder",
            "OnnxParser",
            "OnnxParserRefitter",
            "NetworkDefinitionCreationFlag",
            "INetworkDefinition",
            "IBuilderConfig",
            "IOptimizationProfile",
            "ITensor",
            "ParserError",
            "EngineInspector",
        ),
        BUILDERS,
    ),
    **dict.fromkeys(
        (
            "ComputeCapability",
            "EngineInvalidityDiagnostics",
            "DynamicShapesKernelSpecializationStrategy",
            "IRuntimeCache",
            "IRuntimeConfig.create_runtime_cache",
            "IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy",
            "IRuntimeConfig.set_runtime_cache",
            "IBuilderConfig.num_compute_capabilities",
            "IBuilderConfig.set_compute_capability",
            "Runtime.get_engine_validity",
        ),
        frozenset({"tensorrt_rtx"}),
    ),
}
"""Classes (or `Class.member`s) that only these flavours have. Everything else, all of them have."""

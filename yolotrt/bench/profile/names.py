"""From the names that a runtime gives its layers back to the nodes of the ONNX graph.

Runtimes rename what they fuse: `/model.0/conv/Conv/WithoutBiases`, `/model.0/conv/Conv_output_0_nchwc`,
`/model.0/act/Mul/QuickGeluFusion/`, `/model.0/conv/Conv + PWN(/model.0/act/Sigmoid, /model.0/act/Mul)`. Each of them
holds names of nodes, or of the tensors that nodes give. What is found that way is told by the runtime. A node that no
layer names is then inferred: it was fused into whatever reads its result, if that is one layer (or one set of them).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

# What runtimes put between the names of fused layers.
_BETWEEN = re.compile(r" \+ |, | \|\| |[(){}\[\]\x1e\x1f,]|ONNX Layer: ")
# What runtimes put behind a name.
_BEHIND = re.compile(r"_nchwc$|_token_\d+$|_rows(_\w+)?$")  # the last: `yolotrt.backends.openvino_dfl`
# Layers that belong to no node: the runtime changes how data lies in memory, or copies it.
_OWN_KINDS = re.compile(
    r"^(Reorder\w*|Reformat\w*|NoOp|Input|Output|Copy\w*|ShapeHostToDevice|signal|wait)$", re.IGNORECASE
)
_OWN_NAMES = re.compile(r"^(Reformatting CopyNode|ReorderInput|ReorderOutput|__myl_(Move|Resh)+_)")


class GraphNames:
    """The nodes of a graph by their names and by the tensors that they give.

    Args:
        model: the ONNX graph; a node without a name is called after its first output.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self.operators = {_name(node): node.op_type for node in graph.node}
        self._maker = {output: _name(node) for node in graph.node for output in node.output if output}
        readers: dict[str, list[str]] = {}
        for node in graph.node:
            for name in node.input:
                readers.setdefault(name, []).append(_name(node))
        self._readers = {
            _name(node): [r for output in node.output for r in readers.get(output, ())] for node in graph.node
        }
        self._results = {self._maker[v.name] for v in graph.output if v.name in self._maker}
        constants = {i.name for i in graph.initializer}
        hanging = {v.name for v in graph.input if v.name not in constants}
        self.computed: list[str] = []
        """Names of the nodes that hang on the picture, in the order of the graph."""
        for node in graph.node:
            if not hanging.isdisjoint(node.input):
                hanging.update(node.output)
                self.computed.append(_name(node))

    def told(self, texts: Iterable[str]) -> list[str]:
        """The nodes that some texts of a runtime name, each once."""
        found: dict[str, None] = {}
        for text in texts:
            whole = self._node(text)
            parts = [whole] if whole else [self._node(part) for part in _BETWEEN.split(text)]
            found |= dict.fromkeys(name for name in parts if name)
        return list(found)

    def assign(self, layers: Sequence[Sequence[str]]) -> tuple[list[list[str]], list[str]]:
        """Give every node to the layer that computes it.

        Args:
            layers: for each layer the nodes that the runtime tells.

        Returns:
            For each layer its nodes in the order of the graph, inferred ones among them; a node that several layers
            tell is in each of them. And the nodes that belong to no layer, as far as they hang on the picture.
        """
        of: dict[str, set[int]] = {}
        for index, names in enumerate(layers):
            for name in names:
                of.setdefault(name, set()).add(index)
        for name in reversed(self.computed):
            if name in of or name in self._results:
                continue
            homes = [of.get(reader, set()) for reader in self._readers[name]]
            if homes and homes[0] and all(home == homes[0] for home in homes):
                of[name] = homes[0]
        found: list[list[str]] = [[] for _ in layers]
        for name in self.operators:
            for index in of.get(name, ()):
                found[index].append(name)
        return found, [name for name in self.computed if name not in of]

    def _node(self, text: str) -> str | None:
        """The node that a name stands for, with or without what a runtime put behind it."""
        text = text.strip()
        while text:
            if text in self.operators:
                return text
            if text in self._maker:
                return self._maker[text]
            shorter = _BEHIND.sub("", text)
            if shorter == text:  # a runtime's own part of a path: `NODE/WithoutBiases`, `NODE/QuickGeluFusion/`
                shorter = text.rstrip("/").rpartition("/")[0]
            text = shorter
        return None


def is_own(name: str, kind: str) -> bool:
    """Whether a runtime made this layer for itself: it only moves data."""
    return bool(_OWN_KINDS.match(kind) or _OWN_NAMES.match(name))


def operators_of(nodes: Sequence[str], operators: Mapping[str, str]) -> tuple[str, ...]:
    """The operators of some nodes, each once, those that do most first."""
    found = dict.fromkeys(operators[name] for name in nodes)
    return tuple(
        sorted(found, key=lambda o: (o not in ("Conv", "ConvTranspose", "MatMul", "Gemm"), list(found).index(o)))
    )


def _name(node: onnx.NodeProto) -> str:
    return node.name or node.output[0]

"""Computes at compile time what depends on constants only."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import onnx_ir as ir
from onnxscript.optimizer._constant_folding import FoldConstantsPass

from edgec.passes import constants, library, naming
from edgec.passes.report import Log
from edgec.passes.values import array, flag, is_op, opset, static_shape

# A folded constant may make the file this much bigger than what it replaces, and all of them together that.
# Both in bytes.
MOST_GROWTH = 1 << 20
MOST_GROWTH_IN_ALL = 4 << 20

# ConstantOfShape is one small node that stands for a tensor; up to this many elements the tensor is simpler.
SMALL_FILL = 1024

_RANDOM = ("RandomUniform", "RandomNormal", "RandomUniformLike", "RandomNormalLike", "Multinomial", "Bernoulli")
_QUANTIZATION = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
# Their result can be much larger than their inputs, and the inputs say how large: never computed just to see.
_GENERATORS = ("Range", "Tile", "Expand", "ConstantOfShape", "OneHot", "Pad", "Resize", "EyeLike", "Loop", "Scan")
_MOST_ROUNDS = 4
_TITLE = "constant folding"


def apply(model: ir.Model, log: Log) -> None:
    """Folds constants with onnxscript's folder and ONNX's reference operators.

    1. A node whose inputs are all constants is replaced by its result.
    2. Shape and Size of a static shape become constants; Reshape and Expand to the shape a value has vanish.
    3. An If with a constant condition becomes the branch, where each of the branch's outputs is computed in it.
    4. Random operators, Dropout in training and Q/DQ are never folded.
    5. A result of more than `MOST_GROWTH` bytes over what it replaces is left alone, and says so.
    6. A graph output stays computed by a node.
    7. Where a Range now visibly reads a tensor of one axis and one element (engines allow it as long as they don't
       see it), it reads a scalar.
    """
    fold = _Fold(model, log)
    for _ in range(_MOST_ROUNDS):
        before = {id(n): n.name for g in model.graphs() for n in g}
        with library.quiet(), np.errstate(all="ignore"):
            modified = fold(model).modified
        after = {id(n) for g in model.graphs() for n in g}
        for key, name in before.items():
            if key not in after:
                log.fire(_TITLE, name)
        if not modified:
            break
    constants.apply(model, Log())  # the library leaves Constant nodes
    _scalars_for_range(model)
    naming.separate(model)


def _scalars_for_range(model: ir.Model) -> None:
    """Case 7."""
    names = naming.Names(model)
    for graph in model.graphs():
        for node in graph:
            if not is_op(node, "Range"):
                continue
            for i, value in enumerate(node.inputs):
                if static_shape(value) != (1,) or value is None or value.dtype is None:
                    continue
                shape = ir.Tensor(np.zeros(0, np.int64))
                target = ir.Value(name=names.value(f"{value.name}/scalar"), const_value=shape)
                target.shape, target.type = ir.Shape([0]), ir.TensorType(ir.DataType.INT64)
                model.graph.register_initializer(target)
                reshape = ir.node("Reshape", [value, target], name=names.node(f"{node.name}/scalar"))
                reshape.outputs[0].name = names.value(f"{node.name}/{value.name}")
                reshape.outputs[0].shape, reshape.outputs[0].type = ir.Shape([]), value.type
                graph.insert_before(node, reshape)
                node.replace_input_with(i, reshape.outputs[0])


class _Fold(FoldConstantsPass):
    """onnxscript's folder within our bounds."""

    def __init__(self, model: ir.Model, log: Log) -> None:
        super().__init__(
            shape_inference=True, input_size_limit=0, output_size_limit=1 << 62, should_fold=self._worth_folding
        )
        self._opset = opset(model)
        self._log = log
        self._names = naming.Names(model)
        self._grown = 0

    def call(self, model: ir.Model) -> Any:
        # Not the base class's: that also folds inside functions and renames left-out outputs ("" becomes "v").
        self._reset()
        self._opset_imports = model.opset_imports
        self.visit_graph(model.graph)
        return ir.passes.PassResult(model, self._modified)

    def process_node(self, node: ir.Node, is_function: bool) -> Any:
        if is_op(node, *_RANDOM) or (is_op(node, "Dropout") and not _is_inference(node)):
            return None
        if is_op(node, "If"):
            return self._branch(node)
        if is_op(node, "SplitToSequence") and self._opset < 18:  # the rewrite uses Split-18's num_outputs
            return None
        if is_op(node, "ConcatFromSequence") and flag(node, "new_axis"):
            return None
        if is_op(node, "CastLike") and not flag(node, "saturate", True):  # the rewrite to Cast drops it
            return None
        try:
            return super().process_node(node, is_function)
        except RuntimeError as error:  # one operator's evaluator raised; the node is as it was
            self._log.refuse(_TITLE, node.name, f"The library's evaluator failed: {error.__cause__ or error}")
            return None

    def replace_node(self, node: ir.Node, replacement: Any, root: ir.Graph | ir.Function) -> None:
        super().replace_node(node, replacement, root)
        for value in replacement.new_outputs:  # a growing list of ancestors, meant for debugging
            value.metadata_props.pop("pkg.onnxscript.optimizer.folded_from", None)
        for new in replacement.new_nodes:
            if not new.name:
                new.name = self._names.node(node.name or new.op_type)

    def _branch(self, node: ir.Node) -> Any:
        """Inlines the branch taken. Where its values have names of the outer graph, `naming.separate` renames them."""
        condition = array(node.inputs[0])
        if condition is None or condition.size != 1:
            return None
        branch = node.attributes["then_branch" if condition.item() else "else_branch"].as_graph()
        producers = [v.producer() for v in branch.outputs]
        if any(p is None or p.graph is not branch for p in producers):
            self._log.refuse("constant If", node.name, "The branch hands on a value that it does not compute")
            return None
        if len(set(branch.outputs)) != len(branch.outputs) or branch.initializers:
            self._log.refuse("constant If", node.name, "The branch gives one value twice, or has weights of its own")
            return None
        return super().process_node(node, is_function=False)

    def _worth_folding(self, node: ir.Node) -> bool:
        if is_op(node, *_QUANTIZATION) or len(node.outputs) != 1 or node.outputs[0].is_graph_output():
            return False
        output = node.outputs[0]
        shape, dtype = static_shape(output), output.dtype
        if shape is None or dtype is None:
            return not is_op(node, *_GENERATORS)
        size = int(np.prod(shape, dtype=np.int64))
        if is_op(node, "ConstantOfShape"):
            return size <= SMALL_FILL
        growth = self._growth(node, int(size * dtype.itemsize) if not dtype.is_string() else size)
        if growth > MOST_GROWTH or self._grown + growth > MOST_GROWTH_IN_ALL:
            self._log.refuse(_TITLE, node.name, f"Its result would make the file {growth:,} bytes bigger")
            return False
        return True

    def _growth(self, node: ir.Node, nbytes: int) -> int:
        """Bytes that folding `node` into a constant of `nbytes` would add to the file."""
        freed = 0
        for value in set(node.inputs):
            if value is not None and value.const_value is not None and len(value.consumers()) == 1:
                freed += value.const_value.nbytes
        return nbytes - freed

    def _prepare_folded_tensor(self, node: ir.Node, output_name: str, output_array: Any) -> ir.Tensor[Any] | None:
        if isinstance(output_array, np.generic):
            output_array = np.asarray(output_array)
        if not isinstance(output_array, np.ndarray) or output_array.dtype.kind in "OSU":
            return None
        output = node.outputs[0]
        # The reference operators are not the engine: where their result is not of the declared kind, don't trust it.
        with contextlib.suppress(TypeError):
            if output.dtype is not None and output_array.dtype != output.dtype.numpy():
                return None
        shape = static_shape(output)
        if shape is not None and shape != output_array.shape:
            return None
        growth = self._growth(node, output_array.nbytes)
        if growth > MOST_GROWTH or self._grown + growth > MOST_GROWTH_IN_ALL:
            self._log.refuse(_TITLE, node.name, f"Its result would make the file {growth:,} bytes bigger")
            return None
        self._grown += max(growth, 0)
        return super()._prepare_folded_tensor(node, output_name, output_array)


def _is_inference(node: ir.Node) -> bool:
    """Whether a Dropout passes its input through: no training_mode, or a constant False."""
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return True
    training = array(node.inputs[2])
    return training is not None and training.size == 1 and not training.item()

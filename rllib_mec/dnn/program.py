"""What stands behind a traced operator graph: the fx program and its nodes' values."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from rllib_mec.dnn.calls import Call
from rllib_mec.dnn.dimensions import Ranges, Size
from rllib_mec.dnn.nesting import Nest, within
from rllib_mec.errors import MecError

Value = Any
"""A node's value while probing: a tensor without data, a tuple of them, a number, None, ..."""

StandIn = Callable[[torch.Tensor], torch.Tensor]
"""Gives for a tensor one without data, for the same always the same."""


@dataclass(frozen=True)
class TensorSpec:
    """Shape, dtype and memory layout of a tensor that some node yields.

    Attributes:
        shape: Its sizes.
        dtype: Its type.
        order: Its dimensions from the outermost in memory to the innermost; ``()``: as they stand.
        sizes: The formulas of its sizes where some of them range; ``()``: all are fixed.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    order: tuple[int, ...] = ()
    sizes: tuple[Size, ...] = ()

    @classmethod
    def of(cls, tensor: torch.Tensor, sizes: tuple[Size, ...] = ()) -> TensorSpec:
        """The spec of a tensor.

        Args:
            tensor: Whose shape, type and layout to take.
            sizes: The formulas of its sizes.

        Raises:
            MecError: It is sparse.
        """
        if tensor.layout is not torch.strided:
            raise MecError(
                f"a sparse tensor of shape {tuple(tensor.shape)} would have to be sent, whose size"
                " depends on its data: let the forward take and return dense ones"
            )
        strides = tensor.stride()
        order = tuple(sorted(range(tensor.dim()), key=lambda d: -strides[d]))
        is_plain = tensor.is_contiguous() or order == tuple(range(tensor.dim()))
        is_plain = is_plain or 0 in strides  # repeated by an expand, which no copy is
        return cls(tuple(tensor.shape), tensor.dtype, () if is_plain else order, sizes)

    def example(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """A tensor of this spec: random numbers, or zeros where they are no floats.

        Args:
            device: Where it lies.
        """
        if self.dtype.is_floating_point:
            return torch.randn(self.shape, device=device).to(self.dtype)
        return torch.zeros(self.shape, dtype=self.dtype, device=device)


@dataclass
class Program:
    """A traced module and which of its nodes make up which operator.

    Attributes:
        module: The fx module; its parameters are the traced module's own.
        source: The module that was traced, if it still exists.
        made_of: What :func:`.shadow.fingerprint` said of it then.
        call: How its forward was called.
        result: What it returns, with a slot for each of the program's results.
        inputs: For each tensor the forward takes, in order, its name and spec. Arguments that are
            no tensors were baked in.
        state: An argument's name -> the name of its new value in the result.
        kept: For each state, named as the tensor of the argument is, the node of its new value.
        groups: For each operator, its fx nodes' names in execution order.
        results: For each operator or input, the fx nodes whose values are sent when it crosses.
        specs: The spec of each of those nodes.
        replicated: Nodes that run wherever they are needed (parameters, constants, tuple views).
        written: Nodes whose memory some operator writes to, so that a half works on a copy.
        shape_bound: The program holds sizes of the traced batch as constants, so that another
            batch size is an error rather than a wrong result.
        ranges: The sizes that range.
    """

    module: fx.GraphModule
    source: weakref.ref[nn.Module]
    made_of: tuple[Any, ...]
    call: Call
    result: Nest
    inputs: dict[str, TensorSpec]
    state: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    results: dict[str, tuple[str, ...]] = field(default_factory=dict)
    specs: dict[str, TensorSpec] = field(default_factory=dict)
    replicated: frozenset[str] = frozenset()
    written: frozenset[str] = frozenset()
    shape_bound: bool = False
    ranges: Ranges = field(default_factory=Ranges)

    def spec(self, node: str, tensor: torch.Tensor) -> TensorSpec:
        """The spec of what a node yields.

        Args:
            node: Its name.
            tensor: Its value.
        """
        (sizes,) = self.ranges.shapes.get(node, ((),))
        return TensorSpec.of(tensor, sizes)

    @property
    def placeholders(self) -> list[fx.Node]:
        """The nodes that stand for the tensors that the forward takes, in order."""
        return list(self.module.graph.find_nodes(op="placeholder"))

    @property
    def held(self) -> tuple[str, ...]:
        """The inputs that are state: halves keep them instead of sending them."""
        return tuple(name for name in self.inputs if within(name, self.state))

    @property
    def result_nodes(self) -> tuple[fx.Node, ...]:
        """The nodes whose values are the module's result, without its state."""
        output: Any = next(iter(self.module.graph.find_nodes(op="output")))
        return output.args[0][0]


def example_tensors(
    program: Program, device: torch.device | str = "cpu"
) -> tuple[torch.Tensor, ...]:
    """Random inputs of the traced shapes.

    Args:
        program: The traced DNN.
        device: Where they lie.
    """
    return tuple(spec.example(device) for spec in program.inputs.values())


@dataclass
class Probe:
    """Values, MACs and mutations of every node, found by running the program without data."""

    values: dict[fx.Node, Value] = field(default_factory=dict)
    macs: dict[fx.Node, int] = field(default_factory=dict)
    mutated: dict[fx.Node, set[int]] = field(default_factory=dict)


def tensors_in(value: Value) -> list[torch.Tensor]:
    """All tensors in a node's value.

    Args:
        value: A tensor, or any structure that holds some.
    """
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def storage_of(tensor: torch.Tensor) -> int:
    """A number that all views of one tensor share.

    Args:
        tensor: A tensor, or a view of one.
    """
    if tensor.layout is not torch.strided:
        return id(tensor)
    return tensor.untyped_storage()._cdata


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether a tensor is all of its memory, in row-major order."""
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return whole and tensor.is_contiguous()


class _ProbingInterpreter(fx.Interpreter):
    def __init__(
        self, module: fx.GraphModule, flops: FlopCounterMode, stand_in: Callable[..., torch.Tensor]
    ) -> None:
        super().__init__(module, garbage_collect_values=False)
        self._stand_in = stand_in
        self.extra_traceback = False  # it would make many lines of our one-line errors
        self.probe = Probe()
        self._flops = flops

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Value:
        value = super().get_attr(target, args, kwargs)  # written to, it would not tell
        return self._stand_in(value) if isinstance(value, torch.Tensor) else value

    def run_node(self, n: fx.Node) -> Value:
        read = [t for a in n.all_input_nodes for t in tensors_in(self.env[a])]
        versions = [t._version for t in read]
        before = self._flops.get_total_flops()
        if any(isinstance(self.env[a], torch.Generator) for a in n.all_input_nodes):
            raise MecError(
                f"operator {operator_path(n)!r} draws from a torch.Generator of the forward's own,"
                " which two halves cannot share: draw without one"
            )
        if operation(n) == "as_strided" and not all(_is_dense(t) for t in read):
            raise MecError(
                f"operator {operator_path(n)!r} reads memory beyond its tensor, which is not sent:"
                " use views that keep to the tensor's elements"
            )
        try:
            value = super().run_node(n)
        except MecError:
            raise
        except Exception as error:
            if isinstance(error, (DataDependentOutputException, DynamicOutputShapeException)):
                why = "depends on the data of a tensor, so it cannot be traced"
            else:
                why = f"cannot run on an input of this shape: {first_line(error)}"
            raise MecError(f"operator {operator_path(n)!r} {why}") from error
        self.probe.values[n] = value
        self.probe.macs[n] = (self._flops.get_total_flops() - before) // 2
        changed = {storage_of(t) for t, v in zip(read, versions, strict=True) if t._version != v}
        if changed:
            self.probe.mutated[n] = changed
        return value


def probe(
    module: fx.GraphModule,
    inputs: tuple[torch.Tensor, ...],
    watch: Callable[[list[torch.Tensor], StandIn | None], TorchDispatchMode] | None = None,
) -> Probe:
    """Run a program without data and note each node's value, MACs and in-place writes.

    MACs are half the floating-point operations that :class:`FlopCounterMode` counts: convolutions,
    matrix products and attention, without biases, norms, activations and pooling.

    Args:
        module: The program.
        inputs: Tensors for its placeholders, in order; only their shapes and dtypes count.
        watch: Makes a mode that sees every operation, of the inputs without data and of what
            makes such stand-ins; None: parameters have no data.

    Raises:
        MecError: An operator fails on these shapes; the message names it.
    """
    on_meta = any(p.is_meta for p in module.parameters())
    fake = None if on_meta else FakeTensorMode(allow_non_fake_inputs=True)
    stand_in = fake.from_tensor if fake else (lambda t: torch.empty_like(t, device="meta"))
    flops = FlopCounterMode(display=False, custom_mapping=_MORE_FLOPS)
    interpreter = _ProbingInterpreter(module, flops, fake.from_tensor if fake else _as_it_is)
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(without_fused_attention())
        if on_meta:
            stack.enter_context(torch.device("meta"))
        if fake is not None:
            stack.enter_context(fake)
        stack.enter_context(flops)
        given = [stand_in(tensor) for tensor in inputs]
        if watch is not None:
            stack.enter_context(watch(given, fake and fake.from_tensor))
        interpreter.run(*given)
    return interpreter.probe


def _as_it_is(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _rnn_flops(
    sequence: torch.Size, w_input: torch.Size, w_hidden: torch.Size, *args: Any, **kwargs: Any
) -> int:
    """Floating-point operations of one layer and direction of a recurrent net."""
    return 2 * sequence[0] * sequence[1] * (w_input.numel() + w_hidden.numel())


_MORE_FLOPS = {torch.ops.aten.mkldnn_rnn_layer: _rnn_flops}
"""What PyTorch's own counter leaves out."""


def operator_path(node: fx.Node) -> str:
    """The name to show for an fx node: its module's path and, within it, the function called.

    Args:
        node: Of a traced graph.
    """
    stack = node.meta.get("nn_module_stack") or {}
    path = ""
    if stack:
        path = str(list(stack.values())[-1][0]).split("@")[0]
        for prefix in ("L['self'].", "L['self']", "L__self___"):
            path = path.removeprefix(prefix)
    if node.op == "call_module":
        return str(node.target)
    if node.op in ("placeholder", "output", "get_attr"):
        return str(node.target)
    return f"{path}.{operation(node)}" if path else operation(node)


def operation(node: fx.Node, module: nn.Module | None = None) -> str:
    """The kind of operation a node does, e.g. ``"conv2d"``, ``"add"``.

    Args:
        node: Of a traced graph.
        module: The module that the node calls, if it calls one.
    """
    if node.op == "call_module":
        return type(module).__name__.lower() if module is not None else "module"
    if node.op == "call_method":
        return str(node.target)
    target = node.target
    packet = getattr(target, "overloadpacket", None)  # torch.ops.aten.conv2d.default -> conv2d
    return getattr(packet or target, "__name__", str(target)).lstrip("_")


def first_line(error: BaseException) -> str:
    """The first line of an exception's message that says something.

    Args:
        error: The exception; its class is told if it says nothing.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@contextlib.contextmanager
def without_fused_attention() -> Iterator[None]:
    """Let attention run operation by operation, so that its MACs are counted."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)

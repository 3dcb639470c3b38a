"""From any ``nn.Module`` to its :class:`OperatorGraph`: torch.fx first, then ``torch.export``."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn

from rllib_mec.dnn.folding import fold
from rllib_mec.dnn.graph import OperatorGraph
from rllib_mec.dnn.program import Program, Value, first_line, probe, storage_of, tensors_in
from rllib_mec.errors import MecError


def trace(
    module: nn.Module,
    example_input: torch.Tensor | tuple[Any, ...] | Mapping[str, Any],
    *,
    name: str | None = None,
) -> OperatorGraph:
    """Trace a module into a graph of operators, without running it on data.

    Convolutions, linear layers, attention and joins (add, concat, ...) are operators; small ones
    (norms, activations, pooling, flatten) fold into the one before, so that what is sent is the
    tensor after them (footnote 1 of the paper). A small operation on a branch of its own, such as
    the pooling of an Inception module, is an operator of no MACs.

    Args:
        module: The DNN, in eval mode. Parameters on the meta device will do.
        example_input: An input of the shape to partition for, with its batch dimension: a tensor,
            a tuple of positional arguments or a mapping of keyword arguments.
        name: The graph's name; default: the module's class.

    Returns:
        The graph, with the program behind it for :func:`split` and :func:`profile`.

    Raises:
        MecError: The module is in training mode, does not take this input, or has control flow
            that depends on data; the message names the operator or line at fault.
    """
    if not isinstance(module, nn.Module):
        raise MecError(f"expected a torch.nn.Module to trace, got {type(module).__name__}")
    for path, child in module.named_modules():
        if child.training:
            where = f"its submodule {path!r}" if path else "the module"
            raise MecError(
                f"{where} is in training mode, where batch norm would update: call .eval()"
            )
    names, inputs = _bind(module, example_input)
    name = name or type(module).__name__
    failures = []
    for capture in (_capture_fx, _capture_export):
        try:
            traced = capture(module, names, inputs)
            found = probe(traced, inputs)
        except MecError as error:
            failures.append(error)
            continue
        if capture is _capture_fx and _order_matters(found):
            continue  # writes in place that a cut could reorder; the export has none
        shapes = tuple(tuple(v.shape) if isinstance(v, torch.Tensor) else None for v in inputs)
        return fold(Program(traced, names, shapes), found, module, name)
    raise failures[-1]


def _bind(module: nn.Module, example: Any) -> tuple[tuple[str, ...], tuple[Value, ...]]:
    """Names and values of the forward's arguments, in the forward's order."""
    signature = inspect.signature(module.forward)
    try:
        if isinstance(example, Mapping):
            bound = signature.bind(**example)
        else:
            bound = signature.bind(*(example if isinstance(example, tuple) else (example,)))
    except TypeError as error:
        raise MecError(
            f"the example input does not fit {type(module).__name__}.forward{signature}: {error}"
        ) from None
    if bound.kwargs and any(
        p.kind is p.VAR_KEYWORD or p.kind is p.KEYWORD_ONLY for p in signature.parameters.values()
    ):
        raise MecError(
            f"{type(module).__name__}.forward takes keyword-only arguments: wrap it in a"
            " module whose forward takes positional ones"
        )
    names: list[str] = []
    values: list[Value] = []
    for argument, value in bound.arguments.items():
        if signature.parameters[argument].kind is inspect.Parameter.VAR_POSITIONAL:
            names += [f"{argument}_{i}" for i in range(len(value))]
            values += value
        else:
            names.append(argument)
            values.append(value)
    if not any(isinstance(value, torch.Tensor) for value in values):
        raise MecError("the example input holds no tensor: pass a tensor or a tuple of tensors")
    return tuple(names), tuple(values)


def _capture_fx(
    module: nn.Module, names: tuple[str, ...], inputs: tuple[Value, ...]
) -> fx.GraphModule:
    """Symbolic tracing; arguments that are no tensors become constants."""
    parameters = inspect.signature(module.forward).parameters
    if any(p.kind is p.VAR_POSITIONAL for p in parameters.values()):
        raise MecError(f"{type(module).__name__}.forward takes *args")  # left to torch.export
    constants = {p.name: p.default for p in parameters.values() if p.name not in names}
    constants |= {
        n: v for n, v in zip(names, inputs, strict=True) if not isinstance(v, torch.Tensor)
    }
    tracer = fx.Tracer()
    device = "meta" if any(p.is_meta for p in module.parameters()) else "cpu"
    try:
        with torch.device(device):
            graph = tracer.trace(module, concrete_args=constants or None)
    except Exception as error:
        raise MecError(_at_fault(module, error)) from error
    for node in graph.find_nodes(op="placeholder"):
        if node.target not in names or not isinstance(
            inputs[names.index(str(node.target))], torch.Tensor
        ):
            graph.erase_node(node)
    return fx.GraphModule(tracer.root, graph, type(module).__name__)


def _capture_export(
    module: nn.Module, names: tuple[str, ...], inputs: tuple[Value, ...]
) -> fx.GraphModule:
    """``torch.export``, made functional, with the module's own parameters put back."""
    try:
        exported = torch.export.export(module, inputs, strict=False).run_decompositions({})
    except Exception as error:
        raise MecError(_at_fault(module, error)) from error
    traced = exported.module(check_guards=False)
    assert isinstance(traced, fx.GraphModule)
    return traced


def _order_matters(found: Any) -> bool:
    """Whether some operation writes in place on what an independent one also reads."""
    for writer, storages in found.mutated.items():
        downstream = _reachable(writer, lambda n: n.users)
        upstream = _reachable(writer, lambda n: n.all_input_nodes)
        for reader in found.values:
            if reader is writer or reader in downstream or reader in upstream:
                continue
            if reader.op == "output":
                continue
            if any(
                storage_of(t) in storages
                for source in reader.all_input_nodes
                for t in tensors_in(found.values[source])
            ):
                return True
    return False


def _reachable(start: fx.Node, neighbours: Any) -> set[fx.Node]:
    seen, todo = set(), [start]
    while todo:
        for node in neighbours(todo.pop()):
            if node not in seen:
                seen.add(node)
                todo.append(node)
    return seen


def _at_fault(module: nn.Module, error: BaseException) -> str:
    """One line: what tracing stumbled over and the line of the user's code where it happened."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "/torch/" not in f.filename and "/rllib_mec/" not in f.filename]
    where = ""
    if own:
        frame = own[-1]
        where = f" at {frame.filename}:{frame.lineno} in {frame.name}: `{frame.line}`;"
    return (
        f"cannot trace {type(module).__name__}:{where} {first_line(error)}"
        " (control flow must not depend on the data)"
    )

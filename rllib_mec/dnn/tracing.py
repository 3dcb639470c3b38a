"""From any ``nn.Module`` to its :class:`OperatorGraph`: torch.fx first, then ``torch.export``."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import traceback
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.fx.graph import CodeGen, _PyTreeCodeGen
from torch.utils import _pytree as pytree

from rllib_mec.dnn.folding import fold
from rllib_mec.dnn.graph import OperatorGraph
from rllib_mec.dnn.program import (
    Probe,
    Program,
    TensorSpec,
    Value,
    first_line,
    probe,
    storage_of,
    tensors_in,
)
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
        The graph, with the program behind it for :func:`split` and :func:`measure_latency`.

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
    arguments = _bind(module, example_input)
    tensors = {name: v for name, v in arguments.items() if isinstance(v, torch.Tensor)}
    inputs = {name: TensorSpec.of(tensor) for name, tensor in tensors.items()}
    problem: MecError | None = None
    for capture in (_capture_fx, _capture_export):
        captured = False
        try:
            with _silence():
                traced = capture(module, arguments)
                captured = True
                found = probe(traced, tuple(tensors.values()))
        except MecError as error:
            problem = error
            if captured and capture is _capture_fx:
                break  # its structure is known and an operator fails: the export would as well
            continue
        if capture is _capture_fx and _order_matters(found):
            continue  # it writes in place what a cut could reorder; the export does not
        program = Program(traced, weakref.ref(module), inputs)
        return fold(program, found, module, name or type(module).__name__)
    assert problem is not None
    raise problem


def _bind(module: nn.Module, example: Any) -> dict[str, Value]:
    """The forward's arguments by name, in the forward's order."""
    signature = inspect.signature(module.forward)
    where = f"{type(module).__name__}.forward{signature}"
    try:
        if isinstance(example, Mapping):
            bound = signature.bind(**example)
        else:
            bound = signature.bind(*(example if isinstance(example, tuple) else (example,)))
    except TypeError as error:
        raise MecError(f"the example input does not fit {where}: {error}") from None
    arguments: dict[str, Value] = {}
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            arguments |= {f"{name}_{i}": v for i, v in enumerate(value)}
        elif kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD):
            raise MecError(f"{where} takes keyword-only arguments: wrap it in a module without")
        else:
            arguments[name] = value
    for name, value in arguments.items():
        if not isinstance(value, torch.Tensor) and tensors_in(value):
            raise MecError(f"the argument {name!r} of {where} holds tensors: pass each by itself")
    if not any(isinstance(value, torch.Tensor) for value in arguments.values()):
        raise MecError("the example input holds no tensor: pass a tensor or a tuple of tensors")
    return arguments


def _capture_fx(module: nn.Module, arguments: dict[str, Value]) -> fx.GraphModule:
    """Symbolic tracing; arguments that are no tensors become constants."""
    parameters = inspect.signature(module.forward).parameters
    if any(p.kind is p.VAR_POSITIONAL for p in parameters.values()):
        raise MecError(f"{type(module).__name__}.forward takes *args")  # left to torch.export
    constants = {p.name: p.default for p in parameters.values() if p.name not in arguments}
    constants |= {n: v for n, v in arguments.items() if not isinstance(v, torch.Tensor)}
    tracer = fx.Tracer()
    device = "meta" if any(p.is_meta for p in module.parameters()) else "cpu"
    try:
        with torch.device(device):
            graph = tracer.trace(module, concrete_args=constants or None)
    except (Exception, SystemExit) as error:
        raise MecError(_at_fault(module, error)) from error
    traced = fx.GraphModule(tracer.root, graph, type(module).__name__)
    return _plain(traced, arguments)


def _capture_export(module: nn.Module, arguments: dict[str, Value]) -> fx.GraphModule:
    """``torch.export``, made functional, with the module's own parameters put back."""
    try:
        exported = torch.export.export(module, tuple(arguments.values()), strict=False)
        traced = exported.run_decompositions({}).module(check_guards=False)
    except (Exception, SystemExit) as error:
        raise MecError(_at_fault(module, error)) from error
    assert isinstance(traced, fx.GraphModule)
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for path in {str(node.target) for node in traced.graph.find_nodes(op="get_attr")}:
        if path in own:
            parent, _, leaf = path.rpartition(".")
            setattr(traced.get_submodule(parent), leaf, own[path])
    return _plain(traced, arguments)


def _plain(traced: fx.GraphModule, arguments: dict[str, Value]) -> fx.GraphModule:
    """The program as a function of its tensors only, that returns what the module returns."""
    graph = traced.graph
    codegen = graph._codegen
    if isinstance(codegen, _PyTreeCodeGen):
        output = next(iter(graph.find_nodes(op="output")))
        out_spec = codegen.pytree_info.out_spec
        if out_spec is not None:
            flat = output.args[0]
            leaves = list(flat) if isinstance(flat, (list, tuple)) else [flat]
            output.args = (pytree.tree_unflatten(leaves, out_spec),)
        graph.set_codegen(CodeGen())
    placeholders = list(graph.find_nodes(op="placeholder"))
    for node, name in zip(placeholders, _placeholder_names(placeholders, arguments), strict=True):
        if not isinstance(arguments.get(name), torch.Tensor):
            # Its value is baked in; only assertions that it keeps that value may still read it.
            for user in reversed([n for n in graph.nodes if n in _reachable(node, _users)]):
                graph.erase_node(user)
            graph.erase_node(node)
    traced.recompile()
    return traced


def _placeholder_names(placeholders: list[fx.Node], arguments: dict[str, Value]) -> list[str]:
    """The argument that each placeholder stands for: by position, defaults at the end."""
    names = list(arguments)
    return [names[i] if i < len(names) else str(p.target) for i, p in enumerate(placeholders)]


def _order_matters(found: Probe) -> bool:
    """Whether some operation writes in place what others read by another way than from it."""
    reads: dict[int, list[tuple[fx.Node, fx.Node]]] = {}
    for reader in found.values:
        for source in reader.all_input_nodes:
            for storage in {storage_of(t) for t in tensors_in(found.values[source])}:
                reads.setdefault(storage, []).append((reader, source))
    for writer, storages in found.mutated.items():
        beside = [
            (reader, source)
            for storage in storages
            for reader, source in reads[storage]
            if reader is not writer and source is not writer
        ]
        if beside:
            before = _reachable(writer, lambda n: n.all_input_nodes)
            after = _reachable(writer, _users)
            if any(r not in before and source not in after for r, source in beside):
                return True
    return False


def _users(node: fx.Node) -> Iterable[fx.Node]:
    return node.users


def _reachable(start: fx.Node, neighbours: Callable[[fx.Node], Iterable[fx.Node]]) -> set[fx.Node]:
    seen: set[fx.Node] = set()
    todo = [start]
    while todo:
        for node in neighbours(todo.pop()):
            if node not in seen:
                seen.add(node)
                todo.append(node)
    return seen


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep what ``torch.export`` prints and logs beside its exceptions off the screen."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(None), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _at_fault(module: nn.Module, error: BaseException) -> str:
    """One line: what tracing stumbled over and the line of the user's code where it happened."""
    torch_home = str(Path(torch.__file__).parent)
    here = str(Path(__file__).parent)
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((torch_home, here))
    ]
    where = f" at {own[-1].filename}:{own[-1].lineno} `{own[-1].line}`" if own else ""
    reason = first_line(error)
    if "data-dependent" in reason or "symbolically traced variables" in reason:
        reason = "the control flow depends on the data of a tensor"
    return f"cannot trace {type(module).__name__}{where}: {reason}"

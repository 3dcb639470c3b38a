"""From any ``nn.Module`` to its :class:`OperatorGraph`: torch.fx first, then ``torch.export``."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import fx, nn

from rllib_mec.dnn.calls import Call
from rllib_mec.dnn.capture import (
    IN_PLACE,
    Captured,
    capture_export,
    capture_fx,
    silence,
    writes_input,
)
from rllib_mec.dnn.dimensions import Dynamic
from rllib_mec.dnn.folding import fold
from rllib_mec.dnn.graph import OperatorGraph
from rllib_mec.dnn.program import (
    Probe,
    Program,
    StandIn,
    TensorSpec,
    probe,
    storage_of,
    tensors_in,
)
from rllib_mec.dnn.shadow import KeepsState, fingerprint, keeps_state, shadow, without_shortcuts
from rllib_mec.dnn.witness import (
    Record,
    own_seed,
    same_results,
    steps_of,
    steps_of_program,
    weights_of,
)
from rllib_mec.errors import MecError, unknown


def trace(
    module: nn.Module,
    example_input: torch.Tensor | tuple[Any, ...] | Mapping[str, Any],
    *,
    name: str | None = None,
    state: Mapping[str, str] | None = None,
    dynamic: Dynamic | None = None,
) -> OperatorGraph:
    """Trace a module into a graph of operators, each with what it computes and gives.

    Shapes and MACs are found without data. A module whose weights are there is also run on the
    example, on a copy and a few times, to see that the traced program does what it does.

    Convolutions, linear layers, attention and joins (add, concat, ...) are operators; small ones
    (norms, activations, pooling, flatten) fold into the one before, so that what is sent is the
    tensor after them (footnote 1 of the paper). A small operation on a branch of its own, such as
    the pooling of an Inception module, is an operator of no MACs.

    Args:
        module: The DNN, in eval mode. Parameters on the meta device will do.
        example_input: An input of the shape to partition for, with its batch dimension: a tensor,
            a tuple of positional arguments or a mapping of keyword arguments.
        name: The graph's name; default: the module's class.
        state: Of a DNN that takes what it gave before, such as a KV cache, each such argument ->
            the place of its new value in the result: ``{"past": "1"}`` where the forward returns
            ``(logits, past)``, ``{"past": "past"}`` where that is a key or a field. Neither is
            sent: each half keeps the state of its own operators.
        dynamic: Sizes that range, such as ``{"input_ids": {1: Dim("length", min=1, max=512)}}``
            with ``torch.export.Dim``: the halves take all of them, and
            :func:`~rllib_mec.dnn.resized` gives the graph at any. The example must have at least 2
            of each. No table has a point where a half needs a size that no tensor it takes tells,
            such as the batch behind a flattened one. Without ranges halves take the example's
            sizes, and any batch where no operator depends on it.

    Returns:
        The graph, with the program behind it for :func:`~rllib_mec.dnn.split` and
        :func:`~rllib_mec.dnn.measure_latency`.

    Raises:
        MecError: The module is in training mode, does not take this input, has control flow that
            depends on data, does something else in each call, or fixes a size that should range;
            the message names the operator or line at fault.
    """
    _check_kind(module)
    check_mode(module)
    call, tensors = Call.of(module, example_input)
    for label, given in ("state", state), ("dynamic", dynamic):
        if given is not None and not isinstance(given, Mapping):
            raise MecError(f"{label} must be a mapping by argument, got {given!r}")
    for argument in state or {}:
        if argument.split(".")[0] not in call.signature.parameters:
            raise unknown("argument that is state:", argument, call.signature.parameters)
    problem: MecError | None = None
    is_named = False
    # torch.fx does not know what a size may be.
    with_ranges = functools.partial(capture_export, dynamic=dynamic)
    for capture in (with_ranges,) if dynamic else (capture_fx, capture_export):
        captured: Captured | None = None
        try:
            with own_seed() as seeded:
                captured = capture(shadow(module), call, list(tensors.values()))
                if not seeded():
                    raise _sets_the_seed(module)
            found = _probed(captured, module, call, list(tensors.values()), capture is capture_fx)
        except KeepsState:
            raise
        except MecError as error:
            # Where torch.fx sees an operator that fails, it names it better.
            problem = problem if is_named else error
            is_named = captured is not None and not isinstance(error, _Unseen)
            continue
        program = Program(
            captured.module,
            weakref.ref(module),
            fingerprint(module),
            call,
            captured.result,
            {name: TensorSpec.of(tensor) for name, tensor in tensors.items()},
            dict(state or {}),
            shape_bound=capture is not capture_fx,
            ranges=captured.ranges,
        )
        for node, argument in zip(program.placeholders, tensors, strict=True):
            program.inputs[argument] = program.spec(node.name, tensors[argument])
        return fold(program, found, module, name or type(module).__name__)
    assert problem is not None
    raise problem


class _Unseen(MecError):
    """What torch.fx does not see and the export may."""


def _probed(
    captured: Captured,
    module: nn.Module,
    call: Call,
    tensors: list[torch.Tensor],
    by_fx: bool,
) -> Probe:
    """The probe of a captured program.

    Raises:
        MecError: The program fails, or is not what the module does.
    """
    records: list[Record] = []

    def watch(given: list[torch.Tensor], stand_in: StandIn | None) -> Record:
        records.append(Record(given, weights_of(module, stand_in)))
        return records[0]

    with silence():
        found = probe(captured.module, tuple(tensors), watch if by_fx else None)
    _check_writes(captured.module, found, call)
    if not by_fx:
        with silence(), without_shortcuts():
            if not same_results(captured.module, shadow(module), call, tensors, exact=False):
                raise _does_otherwise(module)
        return found
    if _order_matters(found) or _is_read_later(found):
        raise MecError(
            f"the forward of {type(module).__name__} writes in place to what others of its views"
            " read, which a cut could reorder: let it work on clones"
        )
    with silence(), without_shortcuts():  # hooks were looked at while capturing
        made = functools.partial(steps_of, functools.partial(shadow, module), call, tensors)
        expected, steps = made(), records[0].steps
        if expected is None and not any(t.is_meta for t in (*tensors, *module.parameters())):
            made = functools.partial(made, with_data=True)
            expected, steps = made(), steps_of_program(captured.module, module, tensors)
        if expected in (None, steps):
            if not same_results(captured.module, shadow(module), call, tensors, exact=True):
                raise _Unseen(str(_does_otherwise(module)))
            return found
        if made() != expected:
            raise KeepsState(
                f"the forward of {type(module).__name__} does something else in each call, by what"
                " is neither an input nor a weight: make that an argument"
            )
    raise _Unseen(f"torch.fx does not see what {type(module).__name__} decides")


def _does_otherwise(module: nn.Module) -> MecError:
    return MecError(
        f"the forward of {type(module).__name__} does something else when it is traced: it may ask"
        " for a tensor's very class or whether it is compiled, or draw at random by itself"
    )


def _sets_the_seed(module: nn.Module) -> KeepsState:
    return KeepsState(
        f"the forward of {type(module).__name__} sets torch's seed, which halves would not: draw"
        " what it needs outside and pass it as an argument"
    )


def check_mode(module: nn.Module) -> None:
    """Refuse a module in training mode.

    Args:
        module: The user's.

    Raises:
        MecError: It, or a part of it, is.
    """
    for path, child in module.named_modules():
        if child.training:
            where = f"its submodule {path!r}" if path else "the module"
            raise MecError(
                f"{where} is in training mode, where batch norm would update: call .eval()"
            )


def _check_kind(module: Any) -> None:
    """Refuse what is no module, or one that only runs as a whole."""
    if isinstance(module, torch.export.ExportedProgram):
        raise MecError("got an ExportedProgram: pass the module that it was made of, in eval mode")
    if not isinstance(module, nn.Module):
        raise MecError(f"expected a torch.nn.Module to trace, got {type(module).__name__}")
    for path, part in module.named_modules():
        where = f"its submodule {path!r}" if path else "the module"
        kind = type(part).__module__
        if "eval" in vars(part) and hasattr(part, "range_constraints"):
            raise MecError(f"{where} is an exported program: pass the module that it was made of")
        if isinstance(part, torch.jit.ScriptModule):
            raise MecError(f"{where} is TorchScript: pass the module that it was made of")
        if hasattr(part, "_orig_mod"):
            raise MecError(f"{where} is compiled: pass what was given to torch.compile")
        if kind.startswith("torch.ao.nn.") and ".quantized" in kind:
            raise MecError(
                f"{where} ({type(part).__name__}) is quantised, and its packed weights cannot be"
                " traced: split the module before it is; a codec quantises what is sent"
            )
        for name, value in {**part._parameters, **part._buffers}.items():
            if nn.parameter.is_lazy(value):
                raise MecError(f"{where} has no {name} yet: call it once before tracing")
            if value is not None and value.is_quantized:
                raise MecError(f"the {name} of {where} is quantised: split the module before it is")


def _check_writes(traced: fx.GraphModule, found: Probe, call: Call) -> None:
    """Refuse what writes in place to an input, a parameter or a buffer."""
    written = set[int]().union(*found.mutated.values())
    names = iter(call.names)
    for node in traced.graph.nodes:
        name = next(names) if node.op == "placeholder" else str(node.target)
        if node.op in ("placeholder", "get_attr"):
            if any(storage_of(t) in written for t in tensors_in(found.values[node])):
                if name.startswith("_tensor_constant"):
                    raise _Unseen(f"torch.fx does not see that a forward makes {name!r} anew")
                raise writes_input(name) if node.op == "placeholder" else keeps_state(name)


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


def _is_read_later(found: Probe) -> bool:
    """Whether something reads what ``+=`` wrote by another way than from it."""
    nodes = list(found.values)
    position = {node: i for i, node in enumerate(nodes)}
    by_storage: dict[int, list[fx.Node]] = {}
    for node in nodes:
        for storage in {storage_of(t) for t in tensors_in(found.values[node])}:
            by_storage.setdefault(storage, []).append(node)
    for node in nodes:
        if IN_PLACE in node.meta and isinstance(node.args[0], fx.Node):
            for tensor in tensors_in(found.values[node.args[0]]):
                for other in by_storage[storage_of(tensor)]:
                    last = max((position.get(user, len(nodes)) for user in other.users), default=0)
                    if last > position[node] or other.op in ("placeholder", "get_attr"):
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

"""Two ways to a module's program: torch.fx keeps its calls, ``torch.export`` its tensor operations.

Either way the program takes the call's tensors one by one and gives the result's one by one.
"""

from __future__ import annotations

import contextlib
import io
import logging
import operator
import re
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.fx.graph import CodeGen

from rllib_mec.dnn.calls import Call
from rllib_mec.dnn.dimensions import Dynamic, Ranges, check_dynamic, ranges_of
from rllib_mec.dnn.nesting import Nest, constants, take_apart
from rllib_mec.dnn.program import first_line
from rllib_mec.dnn.shadow import KeepsState, capturing, keeps_state, run_watched
from rllib_mec.errors import MecError

_DEVICE_TYPES = ("cpu", "cuda")
_ROOT = "root"


@dataclass
class Captured:
    """A program and what its results stand in.

    Attributes:
        module: Takes and returns tensors, in a tuple.
        result: What the module returns, with a slot for each of them.
        ranges: The sizes that range.
    """

    module: fx.GraphModule
    result: Nest
    ranges: Ranges = field(default_factory=Ranges)


def capture_fx(module: nn.Module, call: Call, tensors: list[torch.Tensor]) -> Captured:
    """Trace symbolically: everything but tensors keeps the value of the call.

    Args:
        module: The shadow of the user's.
        call: How it is called.
        tensors: The call's.

    Raises:
        MecError: It has what torch.fx cannot follow, or would lose.
    """
    device = "meta" if any(p.is_meta for p in module.parameters()) else "cpu"
    tracer = _Tracer(call)
    try:
        with capturing(module), torch.device(device), silence():
            graph = tracer.trace(module)
    except MecError:
        raise
    except (Exception, SystemExit) as error:
        raise MecError(_at_fault(module, error)) from error
    assert tracer.result is not None
    traced = fx.GraphModule(tracer.root, graph, type(module).__name__)
    return Captured(traced, tracer.result)


class _Tracer(fx.Tracer):
    """Calls the module as a user does, hooks included, and takes apart what it returns."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self._call, self._modes = call, _modes()
        self.result: Nest | None = None

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> Any:
        names = _identifiers(self._call.names)
        taken = [self.create_proxy("placeholder", name, (), {}) for name in names]

        def call() -> tuple[Any, ...]:
            args, kwargs = self._call.make(taken)
            result = run_watched(self.root, args, kwargs)  # type: ignore[arg-type]
            where = f"the result of {type(self.root).__name__}"
            self.result, leaves = take_apart(result, lambda v: isinstance(v, _TENSORS), where)
            return tuple(leaves)

        return call, []

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _StandIn(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m is not self.root and super().is_leaf_module(m, module_qualified_name)

    def create_node(self, kind: str, *args: Any, **kwargs: Any) -> fx.Node:
        if kind not in ("placeholder", "output") and _modes() != self._modes:
            raise MecError("torch.fx does not see torch.autocast inside a forward")
        return super().create_node(kind, *args, **kwargs)


class _StandIn(fx.Proxy):
    """What a tensor is while torch.fx traces; it would keep what is assigned to it to itself."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "requires_grad" and hasattr(torch.Tensor, name):
            raise MecError(f"torch.fx does not see what is assigned to a tensor's {name!r}")
        super().__setattr__(name, value)


IN_PLACE = "in_place"
"""Marks a node that gives anew what the forward writes in place, by ``+=`` and the like."""

AUGMENTED = {
    "add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "floordiv": "floor_divide",
    "mod": "remainder", "pow": "pow", "and": "bitwise_and", "or": "bitwise_or",
    "xor": "bitwise_xor", "lshift": "bitwise_left_shift", "rshift": "bitwise_right_shift",
}  # fmt: skip
"""Of each augmented assignment, what torch does for it."""


def _augmented(name: str) -> Callable[[fx.Proxy, Any], fx.Proxy]:
    plain = getattr(operator, f"__{name}__")

    def assign(self: fx.Proxy, other: Any) -> fx.Proxy:
        made = plain(self, other)
        made.node.meta[IN_PLACE] = True
        return made

    return assign


for _name in AUGMENTED:
    setattr(_StandIn, f"__i{_name}__", _augmented(_name))

_TENSORS = (torch.Tensor, fx.Proxy)


def _modes() -> tuple[Any, ...]:
    """What autocast does now."""
    kinds = [d for d in _DEVICE_TYPES if torch.is_autocast_enabled(d)]
    return tuple((d, torch.get_autocast_dtype(d)) for d in kinds)


def _identifiers(names: tuple[str, ...]) -> list[str]:
    """Names for a graph's placeholders."""
    made = [re.sub(r"\W", "_", name) for name in names]
    return [name if made.count(name) == 1 else f"{name}_{i}" for i, name in enumerate(made)]


class _Flat(nn.Module):
    """A module as a function of tensors only, for ``torch.export``."""

    def __init__(self, root: nn.Module, call: Call, results: list[Nest]) -> None:
        super().__init__()
        setattr(self, _ROOT, root)
        self._call, self._results = call, results

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        args, kwargs = self._call.make(tensors)
        root = getattr(self, _ROOT)
        result = run_watched(root, args, kwargs)
        where = f"the result of {type(root).__name__}"
        nest, leaves = take_apart(result, lambda v: isinstance(v, torch.Tensor), where)
        self._results[:] = [nest]
        return tuple(leaves)


def capture_export(
    module: nn.Module, call: Call, tensors: list[torch.Tensor], dynamic: Dynamic | None = None
) -> Captured:
    """``torch.export``, made functional, with the module's own parameters put back.

    Args:
        module: The shadow of the user's.
        call: How it is called.
        tensors: The call's.
        dynamic: Sizes that range.

    Raises:
        MecError: Its control flow depends on data, it writes into an input or a buffer, or a size
            cannot range as it should.
    """
    results: list[Nest] = []
    dynamic = dynamic or {}
    limits, given = check_dynamic(dynamic, dict(zip(call.names, tensors, strict=True)))
    shapes = tuple(dict(dynamic.get(name, {})) for name in call.names) if dynamic else None
    # One tensor given for two arguments would become one input.
    tensors = [t.detach().clone() for t in tensors]
    try:
        with silence(), capturing():
            exported = torch.export.export(
                _Flat(module, call, results).eval(),
                tuple(tensors),
                dynamic_shapes=(shapes,) if shapes else None,
                strict=False,
            )
            written = exported.graph_signature
            own = {**written.buffers_to_mutate, **written.parameters_to_mutate}
            for name in own.values():
                raise keeps_state(name.removeprefix(f"{_ROOT}."))
            for name in written.user_inputs_to_mutate.values():
                position = list(written.user_inputs).index(name)
                raise writes_input(call.names[position])
            traced = exported.run_decompositions({}).module(check_guards=False)
    except MecError:
        raise
    except (Exception, SystemExit) as error:
        if "assigned during export" in str(error):
            found = re.search(r"self\.(?:root\.)?([\w.]+)", str(error))
            raise keeps_state(found[1] if found else "an attribute") from error
        if fixed := re.search(r"marked (\S+) as dynamic .* constant \((\d+)\)", str(error)):
            why = f"{type(module).__name__} fixes it to {fixed[2]}"
            raise MecError(f"the size {fixed[1]!r} cannot range: {why}") from error
        if violated := re.search(r"Constraints violated .*\n\s*- (.*)", str(error)):
            why = violated[1]
            for size, place in re.findall(r"(\w+) = (L\['tensors'\]\S+)", why):
                why = why.replace(f"{size} = {place}", size).replace(place, size)
            raise MecError(f"the sizes cannot range so: {why}") from error
        raise MecError(_at_fault(module, error)) from error
    assert isinstance(traced, fx.GraphModule)
    if any(isinstance(value, torch.SymInt) for value in constants(results[0])):
        raise MecError(f"the result of {type(module).__name__} holds a size that ranges")
    ranges = ranges_of(traced.graph, call.names, dynamic, limits, given)
    return Captured(_without_wrapper(traced, module), results[0], ranges)


def writes_input(name: str) -> KeepsState:
    """The refusal of a forward that writes into a tensor of its caller's.

    Args:
        name: The input.
    """
    return KeepsState(
        f"the forward writes to its input {name!r}, which a half elsewhere would not: let it work"
        " on a clone, and return a new value that the caller needs"
    )


def _without_wrapper(traced: fx.GraphModule, module: nn.Module) -> fx.GraphModule:
    """The program with the names and the tensors of the module that was wrapped."""
    own: dict[str, Any] = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    attributes: dict[str, Any] = {}
    graph = traced.graph
    for node in graph.nodes:
        stack = node.meta.get("nn_module_stack")
        if stack:
            node.meta["nn_module_stack"] = {
                key: (_inner(path), kind) for key, (path, kind) in stack.items()
            }
        if node.op == "get_attr":
            value: Any = traced
            for part in str(node.target).split("."):
                value = getattr(value, part)
            node.target = _inner(str(node.target))
            attributes[node.target] = own.get(node.target, value)
        elif node.op == "output":
            node.args = (tuple(node.args[0]),)
    graph.set_codegen(CodeGen())
    return fx.GraphModule(attributes, graph, type(module).__name__)


def _inner(path: str) -> str:
    return "" if path == _ROOT else path.removeprefix(f"{_ROOT}.")


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep what tracing prints and logs beside its exceptions off the screen."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.ExitStack() as quiet:
            quiet.enter_context(contextlib.redirect_stdout(None))
            quiet.enter_context(contextlib.redirect_stderr(io.StringIO()))
            quiet.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
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

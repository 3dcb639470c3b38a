"""A copy of a module to trace in its stead, and what its forward would leave behind in it."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import torch
from torch import fx, nn
from torch._subclasses import FakeTensor
from torch.nn.modules import transformer
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from rllib_mec.dnn.program import storage_of, without_fused_attention
from rllib_mec.errors import MecError

_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_SIMPLE = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size)
_SIZES = ("shape", "size", "dim", "ndim", "device", "dtype")

_HOUSEKEEPING = ("_parameters", "_buffers", "_modules", "_flat_weight")

_capturing: ContextVar[bool] = ContextVar("capturing", default=False)


class KeepsState(MecError):
    """The forward writes what the halves cannot carry; another way to trace changes nothing."""


def shadow(module: nn.Module) -> nn.Module:
    """A copy of a module's tree with the same parameters and buffers, to be traced in its stead.

    Its modules and their attributes are its own, so that neither what a forward writes into them
    nor a later ``train()`` or a replaced submodule of one changes the other.

    Args:
        module: The user's.
    """
    modules = dict(module.named_modules())
    copies = {id(m): object.__new__(type(m)) for m in modules.values()}
    memo: dict[int, Any] = dict(copies)
    for m in modules.values():
        tensors = pytree.tree_leaves([dict(vars(m)), m._parameters, m._buffers])
        memo |= {id(t): t for t in tensors if isinstance(t, torch.Tensor)}
    for path, m in modules.items():
        own = vars(copies[id(m)])
        for name, value in vars(m).items():
            if "hooks" in name:  # a hook's own memory is the user's
                own[name] = copy.copy(value)
            else:
                try:
                    own[name] = copy.deepcopy(value, memo)
                except Exception:  # a lock, a file: nothing that a forward could write a tensor to
                    own[name] = value
        for kind in _HOOKS:
            for key, hook in list(own[kind].items()):
                if not str(type(hook).__module__).startswith("torch.nn.utils"):  # weight norm's
                    own[kind][key] = _Hook(path, hook)
    return copies[id(module)]


def twin(module: nn.Module) -> nn.Module:
    """A module with the same parameters, buffers and attributes, but a mode of its own.

    Args:
        module: It is not traced: what stands in its attributes may be shared.
    """
    made = object.__new__(type(module))
    own = vars(made)
    own |= vars(module)
    for name in ("_parameters", "_buffers"):
        own[name] = own[name].copy()
    own["_modules"] = {name: child and twin(child) for name, child in own["_modules"].items()}
    return made


class _Hook:
    """A forward hook that is refused if tracing goes through it and it gives nothing back."""

    def __init__(self, path: str, hook: Callable[..., Any]) -> None:
        self._path, self._hook = path, hook

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = self._hook(*args, **kwargs)
        if result is None and _capturing.get():
            where = f"the submodule {self._path!r}" if self._path else "the module"
            raise KeepsState(
                f"a forward hook of {where} only looks on, and would not see what the halves do:"
                " remove it before tracing"
            )
        return result


@contextlib.contextmanager
def capturing(module: nn.Module | None = None) -> Iterator[None]:
    """While a module is traced: nothing writes into its tensors.

    Args:
        module: The shadow, whose tensors are the user's; None: torch puts others in their stead.
    """
    names: dict[int, str] = {}
    before: list[tuple[torch.Tensor, torch.Tensor]] = []
    for path, m in module.named_modules() if module is not None else ():
        for name, value in {**vars(m), **m._parameters, **m._buffers}.items():
            if isinstance(value, torch.Tensor) and value.layout is torch.strided:
                before.append((value, value.data))
                names[storage_of(value)] = f"{path}.{name}".lstrip(".")
    token = _capturing.set(True)
    try:
        with contextlib.nullcontext() if module is None else _NoWrites(names), without_shortcuts():
            yield
    finally:
        _capturing.reset(token)
        for tensor, data in before:
            if _memory(tensor) != _memory(data):  # another was assigned
                tensor.data = data


def _memory(tensor: torch.Tensor) -> tuple[Any, ...]:
    return storage_of(tensor), tensor.dtype, tuple(tensor.shape), tensor.layout


@contextlib.contextmanager
def without_shortcuts() -> Iterator[None]:
    """Let attention run operation by operation, by its mask, whatever stands in that."""
    detect = transformer._detect_is_causal_mask
    transformer._detect_is_causal_mask = lambda mask, is_causal=None, size=None: is_causal is True
    try:
        with without_fused_attention():
            yield
    finally:
        transformer._detect_is_causal_mask = detect


class _NoWrites(TorchDispatchMode):
    """Refuses what would write into some tensors, or freeze a random one, before it does."""

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()
        self._names = names

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise MecError("torch.fx would keep what a forward draws at random")
        if func._schema.is_mutable:
            for argument, value in zip(func._schema.arguments, args, strict=False):
                written = argument.alias_info is not None and argument.alias_info.is_write
                if written and isinstance(value, torch.Tensor):
                    name = self._names.get(storage_of(value))
                    if name is not None:
                        raise keeps_state(name)
        return func(*args, **(kwargs or {}))


def keeps_state(name: str) -> KeepsState:
    """The refusal of a forward that writes something into its module.

    Args:
        name: Of what it writes.
    """
    return KeepsState(
        f"the forward writes to {name!r} of the module, which the halves cannot carry from one call"
        " to the next: take it as an argument and return its new value"
    )


def run_watched(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a module; what it leaves behind in itself is an error.

    An empty place that it fills with what does not depend on its inputs is none: a cache.

    Args:
        module: The shadow.
        args: Of the call.
        kwargs: Of the call.

    Raises:
        MecError: It writes an attribute or a buffer.
    """
    before = _state(module)
    result = module(*args, **kwargs)
    for name, (mark, value) in _state(module).items():
        old = before.pop(name, (None, None))[0]
        if mark != old and not (old is None and _is_constant(value)):
            raise keeps_state(name)
    if before:
        raise keeps_state(next(iter(before)))
    return result


def _is_constant(value: Any) -> bool:
    """Whether a value does not depend on the data of the traced module's inputs."""
    if not isinstance(value, fx.Proxy):
        return not isinstance(value, FakeTensor)
    seen: set[fx.Node] = set()
    todo = [value.node]
    while todo:
        node = todo.pop()
        if node.op == "placeholder":
            return False
        is_size = node.target is getattr and node.args[1] in _SIZES
        if node not in seen and not is_size and node.target not in _SIZES:
            seen.add(node)
            todo += node.all_input_nodes
    return True


def _state(module: nn.Module) -> dict[str, tuple[Any, Any]]:
    """A mark for everything that a forward could write, by name, that changes when it does."""
    state: dict[str, tuple[Any, Any]] = {}
    for path, m in module.named_modules():
        for name, value in {**vars(m), **m._parameters, **m._buffers}.items():
            if "hooks" not in name and not name.startswith(_HOUSEKEEPING):
                _mark(f"{path}.{name}".lstrip("."), value, state, 4)
        _mark(f"{path}._modules".lstrip("."), list(m._modules), state, 4)
    return state


def _mark(name: str, value: Any, state: dict[str, tuple[Any, Any]], depth: int) -> None:
    if isinstance(value, torch.Tensor):
        version = 0 if value.is_inference() else value._version
        state[name] = ((id(value), version, *_memory(value)), value)
    elif isinstance(value, _SIMPLE):
        state[name] = (None if value is None else (type(value), value), value)
    elif isinstance(value, (nn.Module, fx.Proxy)) or not depth:
        state[name] = (id(value), value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _mark(f"{name}[{key!r}]", item, state, depth - 1)
    elif isinstance(value, (list, tuple, set)):
        state[f"len({name})"] = (len(value), value)
        for i, item in enumerate(value):
            _mark(f"{name}[{i}]", item, state, depth - 1)
    else:
        state[name] = (id(value), value)
        if type(getattr(value, "__dict__", None)) is dict and not isinstance(value, type):
            for key, item in vars(value).items():
                _mark(f"{name}.{key}", item, state, depth - 1)


def fingerprint(module: nn.Module) -> tuple[Any, ...]:
    """Differs when a submodule, a parameter, a buffer, a hook or a setting is replaced.

    Args:
        module: The user's; the values of its tensors do not count.
    """
    found: list[Any] = []
    for path, m in module.named_modules():
        tensors = {**m._parameters, **m._buffers}
        hooks = [tuple(vars(m)[kind].values()) for kind in _HOOKS]
        found.append((path, type(m), vars(m).get("forward"), *hooks))
        found += [(n, id(t), t.dtype, t.device) for n, t in tensors.items() if t is not None]
        found += [(n, v) for n, v in vars(m).items() if isinstance(v, _SIMPLE)]
    return tuple(found)

"""How a module is called: which tensors stand where in the arguments of its forward."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from rllib_mec.dnn.nesting import (
    Branch,
    Constant,
    Nest,
    Slot,
    check_same,
    graft,
    put_together,
    slot_names,
    take_apart,
)
from rllib_mec.errors import MecError


@dataclass(frozen=True)
class Example:
    """An example that has positional and keyword arguments.

    Attributes:
        args: The positional ones.
        kwargs: The others.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class Call:
    """A call of a forward, without its tensors; all else in its arguments is fixed.

    Attributes:
        where: The forward, for errors.
        signature: Of the forward.
        arguments: Each argument given, by the name of its parameter.
        names: The tensors in them, in order.
    """

    where: str
    signature: inspect.Signature
    arguments: Branch
    names: tuple[str, ...]

    @classmethod
    def of(cls, module: nn.Module, example: Any) -> tuple[Call, dict[str, torch.Tensor]]:
        """The call that an example makes, and the example's tensors by name.

        Args:
            module: Whose forward is called.
            example: A tensor, a tuple of positional arguments or a mapping of keyword arguments.

        Raises:
            MecError: The forward does not take it, or it holds no tensor.
        """
        signature = inspect.signature(module.forward)
        where = f"{type(module).__name__}.forward{signature}"
        try:
            if isinstance(example, Example):
                bound = signature.bind(*example.args, **example.kwargs)
            elif isinstance(example, Mapping):
                bound = signature.bind(**example)
            else:
                bound = signature.bind(*(example if isinstance(example, tuple) else (example,)))
        except TypeError as error:
            raise MecError(f"the example input does not fit {where}: {error}") from None
        arguments, tensors = _apart(bound, where)
        if not tensors:
            raise MecError("the example input holds no tensor: pass a tensor or a tuple of tensors")
        names = tuple(slot_names(arguments))
        call = cls(where, signature, arguments, names)
        return call, dict(zip(names, tensors, strict=True))

    def make(self, tensors: Iterable[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional and keyword arguments with these tensors.

        Args:
            tensors: In the order of ``names``.
        """
        made = put_together(self.arguments, tensors)
        bound = inspect.BoundArguments(self.signature, made)  # type: ignore[arg-type]
        return bound.args, bound.kwargs

    def example(self, tensors: Iterable[Any]) -> Example:
        """The same call with these tensors, to trace another module with.

        Args:
            tensors: In the order of ``names``.
        """
        return Example(*self.make(tensors))

    def without(self, names: Iterable[str]) -> Call:
        """The same call with fewer tensors: arguments of which none is left are left out.

        Args:
            names: Of the tensors.
        """
        left_out = set(names)
        if not left_out:
            return self
        arguments = self.arguments
        kept: dict[str, Nest] = {}
        for name, nest in zip(arguments.names, arguments.children, strict=True):
            slots = slot_names(nest, name)
            left = [Constant(None) if slot in left_out else Slot() for slot in slots]
            without = graft(nest, iter(left))
            if not slots or slot_names(without, name):
                kept[name] = without
        children = tuple(kept.values())
        fewer = replace(arguments, names=tuple(kept), children=children, build=dict)
        names = tuple(name for name in self.names if name not in left_out)
        return replace(self, arguments=fewer, names=names)

    @property
    def fixed(self) -> str:
        """What is fixed in the call, as a text that differs where it does."""
        return repr((self.arguments.names, [_fixed(nest) for nest in self.arguments.children]))

    def tensors(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
        """The tensors of another call, in the order of ``names``.

        What is no tensor may be left out, and must not differ.

        Args:
            args: Its positional arguments.
            kwargs: Its keyword arguments.

        Raises:
            MecError: The forward does not take them, or was traced with others.
        """
        try:
            bound = self.signature.bind_partial(*args, **kwargs)
        except TypeError as error:
            raise MecError(f"the call does not fit {self.where}: {error}") from None
        given, tensors = _apart(bound, self.where)
        traced = dict(zip(self.arguments.names, self.arguments.children, strict=True))
        for name, nest in zip(given.names, given.children, strict=True):
            check_same(traced[name] if name in traced else self._default(name), nest, name)
        missing = [n for n, nest in traced.items() if n not in given.names and slot_names(nest)]
        if missing:
            raise MecError(f"{missing[0]!r} is missing: expected {', '.join(self.names)}")
        by_name = dict(zip(slot_names(given), tensors, strict=True))
        return [by_name[name] for name in self.names]

    def _default(self, name: str) -> Nest:
        """What stands for an argument that the example left out."""
        parameter = self.signature.parameters[name]
        if parameter.default is not parameter.empty:
            return Constant(parameter.default)
        raise MecError(f"{name!r} was not given when {self.where} was traced: trace it with it")


def _fixed(nest: Nest) -> Any:
    if isinstance(nest, Branch):
        return nest.kind.__name__, nest.names, [_fixed(child) for child in nest.children]
    return nest


def _apart(bound: inspect.BoundArguments, where: str) -> tuple[Branch, list[Any]]:
    def is_tensor(value: Any) -> bool:
        return isinstance(value, torch.Tensor)

    arguments, tensors = take_apart(dict(bound.arguments), is_tensor, f"an argument of {where}")
    assert isinstance(arguments, Branch)
    return arguments, tensors

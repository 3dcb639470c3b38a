"""What halves take, checked before they run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from rllib_mec.dnn.calls import Call
from rllib_mec.dnn.dimensions import Ranges, solve
from rllib_mec.dnn.program import TensorSpec
from rllib_mec.errors import MecError, unknown

Read = Callable[[tuple[Any, ...], Mapping[str, Any]], tuple[Mapping[str, Any], tuple[Any, ...]]]
"""Of what a half is called with, the tensors by name, and what it is called with instead."""


def of_a_call(
    call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Mapping[str, Any], tuple[Any, ...]]:
    """A head's tensors, from arguments as its module has them.

    Args:
        call: How the module was called when it was traced.
        args: The positional arguments.
        kwargs: The others.
    """
    tensors = call.tensors(args, kwargs)
    return dict(zip(call.names, tensors, strict=True)), tuple(tensors)


def by_name(
    args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Mapping[str, Any], tuple[Any, ...]]:
    """A tail's tensors, which are all that it takes.

    Args:
        args: One mapping.
        kwargs: None.

    Raises:
        MecError: Something else was given.
    """
    if kwargs or len(args) != 1 or not isinstance(args[0], Mapping):
        raise MecError("a tail takes one mapping of tensors by name, as its head returns it")
    return args[0], args


class Checks:
    """A hook that checks what a half is called with, its state first if it has one.

    Args:
        read: How the tensors are found.
        specs: Name and spec of each of them.
        state: Name and spec of each state; None: the half has none.
        bound: The half takes no other batch than the traced one.
        ranges: The sizes that range.
    """

    def __init__(
        self,
        read: Read,
        specs: Mapping[str, TensorSpec],
        state: Mapping[str, TensorSpec] | None,
        bound: bool,
        ranges: Ranges,
    ):
        """Keep what to check by."""
        self._read, self._specs, self._state = read, specs, state
        self._bound, self._ranges = bound, ranges
        every = {**(state or {}), **specs} if ranges else {}
        self._sizes = {name: spec.sizes or spec.shape for name, spec in every.items()}
        self._steps = solve(self._sizes)

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Check one call.

        Args:
            module: The half.
            args: The positional arguments.
            kwargs: The others.

        Raises:
            MecError: A tensor is missing, or has another shape or type than the half was made for.
        """
        taken: tuple[Any, ...] = ()
        state: Mapping[str, Any] = {}
        if self._state is not None:
            if not args or not isinstance(args[0], Mapping):
                raise MecError(
                    "this half takes its state first, a mapping of tensors by name:"
                    f" {', '.join(self._state) or 'an empty one'}"
                )
            taken, args = args[:1], args[1:]
            state = taken[0]
            self._check(state, self._state, bound=True)
        tensors, passed = self._read(args, kwargs)
        self._check(tensors, self._specs, self._bound)
        if self._ranges:
            shapes = {n: tuple(t.shape) for n, t in {**state, **tensors}.items()}
            self._ranges.check(shapes, self._sizes, self._steps)
        return (*taken, *passed), {}

    def _check(
        self, tensors: Mapping[str, Any], specs: Mapping[str, TensorSpec], bound: bool
    ) -> None:
        for name, spec in specs.items():
            if name not in tensors:
                raise MecError(f"the tensor {name!r} is missing: expected {', '.join(specs)}")
            tensor = tensors[name]
            if not isinstance(tensor, torch.Tensor):
                raise MecError(f"{name!r} must be a tensor, but is a {type(tensor).__name__}")
            shape = tuple(tensor.shape)
            skip = 0 if bound else 1  # only a program without baked-in sizes takes any batch
            fits = len(shape) == len(spec.shape) and shape[skip:] == spec.shape[skip:]
            if not fits and not self._ranges:
                free = "" if bound else " (any batch size)"
                raise MecError(
                    f"{name!r} has shape {shape}, the DNN was traced for {spec.shape}{free}"
                )
            if tensor.dtype != spec.dtype:
                raise MecError(
                    f"{name!r} is of {tensor.dtype}, the DNN was traced for {spec.dtype}"
                )
        for name in tensors:
            if name not in specs:
                raise unknown("tensor", name, specs, show=12)

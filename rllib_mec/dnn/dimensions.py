"""Sizes that range: a batch, a sequence, a cache that grows.

Each is a symbol with a name and limits; the shape of every tensor is a formula of these, found by
``torch.export``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sympy
import torch
from torch import fx
from torch.export import Dim
from torch.utils._sympy.functions import FloorDiv
from torch.utils._sympy.interp import sympy_interp
from torch.utils._sympy.reference import PythonReferenceAnalysis

from rllib_mec.errors import MecError, unknown

Size = int | sympy.Expr
"""A size that is fixed, or a formula of those that range."""

Dynamic = Mapping[str, Mapping[int, Dim]]
"""Name of a tensor in a call -> its dimension -> what ``torch.export.Dim`` says of that."""

SIZE = sympy.Dummy("size", integer=True, nonnegative=True)
"""Stands for a tensor's size in the formula of what that tells."""

Step = tuple[sympy.Symbol, str, int, sympy.Expr]
"""A symbol, the tensor and dimension that tell it, and a formula of that size and of symbols."""


@dataclass(frozen=True)
class Ranges:
    """The sizes that range in a program.

    Attributes:
        limits: Name of each -> its least and its largest value.
        given: The same sizes as they were in the example.
        sizes: Name of an fx node that is a number -> its formula.
        shapes: Name of an fx node -> of each tensor in its value, the formulas of its sizes.
    """

    limits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    given: Mapping[str, int] = field(default_factory=dict)
    sizes: Mapping[str, Size] = field(default_factory=dict)
    shapes: dict[str, tuple[tuple[Size, ...], ...]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.limits)

    def text(self) -> str:
        """Their limits, in words."""
        return ", ".join(f"{n} from {low} to {high}" for n, (low, high) in self.limits.items())

    def shape(self, sizes: Iterable[Size], **others: int) -> tuple[int, ...]:
        """A shape at the example's sizes, or at others.

        Args:
            sizes: Its formulas.
            **others: What differs from the example, by name.

        Raises:
            MecError: There is no such size, or it is beyond its limits.
        """
        for name, size in others.items():
            if name not in self.limits:
                raise unknown("size that ranges:", name, self.limits)
            low, high = self.limits[name]
            if not isinstance(size, int) or not low <= size <= high:
                raise MecError(f"the size {name!r} must be from {low} to {high}, but is {size!r}")
        values = {_symbol(name): size for name, size in {**self.given, **others}.items()}
        return tuple(int(value_of(formula, values)) for formula in sizes)

    def check(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        formulas: Mapping[str, tuple[Size, ...]],
        steps: list[Step],
    ) -> None:
        """Check the shapes of tensors that belong together.

        Args:
            shapes: Name of each tensor -> its shape.
            formulas: The same -> the formulas of its sizes.
            steps: What :func:`solve` made of these.

        Raises:
            MecError: They contradict each other, or a size is beyond its limits.
        """
        values: dict[sympy.Symbol, int] = {}
        for name, expected in formulas.items():
            if len(shapes[name]) != len(expected):
                raise MecError(self._differs(name, shapes[name], expected, values))
        for symbol, name, at, formula in steps:
            values[symbol] = value_of(formula, {**values, SIZE: shapes[name][at]})
        for name, expected in formulas.items():
            pairs = zip(expected, shapes[name], strict=True)
            if any(value_of(formula, values) not in (None, size) for formula, size in pairs):
                raise MecError(self._differs(name, shapes[name], expected, values))
        for symbol, value in values.items():
            low, high = self.limits[symbol.name]
            if not low <= value <= high:
                raise MecError(
                    f"the size {symbol.name!r} is {value}, the DNN was traced for {self.text()}"
                )

    def _differs(
        self,
        name: str,
        shape: tuple[int, ...],
        sizes: tuple[Size, ...],
        values: Mapping[sympy.Symbol, int],
    ) -> str:
        here = f"; here {', '.join(f'{s.name} = {v}' for s, v in values.items())}"
        return (
            f"{name!r} has shape {shape}, the DNN was traced for ({', '.join(map(str, sizes))})"
            f" with {self.text()}{here if values else ''}"
        )


def _symbol(name: str) -> sympy.Symbol:
    return sympy.Symbol(name, integer=True, nonnegative=True)


def value_of(formula: Size, values: Mapping[Any, Any]) -> Any:
    """What a formula comes to; None where a symbol has no value.

    Args:
        formula: Of symbols.
        values: Of each symbol a whole number, or an fx proxy of one.
    """
    if isinstance(formula, int):
        return formula
    known = formula.free_symbols <= values.keys()
    return sympy_interp(PythonReferenceAnalysis, dict(values), formula) if known else None


def solve(shapes: Mapping[str, tuple[Size, ...]]) -> list[Step]:
    """How to find the sizes that range from tensors, one after the other.

    Args:
        shapes: Name of each tensor -> the formulas of its sizes.

    Returns:
        A step for each symbol that the shapes tell; others are left out.
    """
    steps: list[Step] = []
    known: set[sympy.Symbol] = set()
    left = [(n, d, s) for n, sizes in shapes.items() for d, s in enumerate(sizes)]
    left = [(n, d, s) for n, d, s in left if isinstance(s, sympy.Expr)]
    while True:
        for name, dimension, size in left:
            free: Any = [s for s in size.free_symbols if s not in known]
            if len(free) == 1 and (formula := _inverse(size, free[0])) is not None:
                steps.append((free[0], name, dimension, formula))
                known.add(free[0])
                break
        else:
            return steps


def _inverse(size: sympy.Expr, symbol: Any) -> sympy.Expr | None:
    """A formula for the symbol, if the size grows linearly with it."""
    if not size.is_polynomial(symbol) or sympy.degree(size, symbol) != 1:
        return None
    slope: Any = sympy.diff(size, symbol)
    formula: Any = SIZE - sympy.expand(size - slope * symbol)
    if slope != 1:
        formula = FloorDiv(formula, slope)
    return formula


def check_dynamic(
    dynamic: Dynamic, tensors: Mapping[str, torch.Tensor]
) -> tuple[dict[str, tuple[int, int]], dict[str, int]]:
    """The limits of the sizes that range, and what they are in an example.

    Args:
        dynamic: As the user gave it.
        tensors: The example's, by name.

    Raises:
        MecError: There is no such tensor or dimension, something is no ``Dim``, one name has two
            meanings, or the example is not within the limits.
    """
    limits: dict[str, tuple[int, int]] = {}
    given: dict[str, int] = {}
    for name, dims in dynamic.items():
        if name not in tensors:
            raise unknown("tensor with a size that ranges:", name, tensors, show=12)
        if not isinstance(dims, Mapping):
            raise MecError(f"{name!r} needs a mapping of dimensions to Dims, got {dims!r}")
        for at, dim in dims.items():
            shape = tuple(tensors[name].shape)
            if not isinstance(at, int) or not 0 <= at < len(shape):
                raise MecError(f"{name!r} has shape {shape}, which has no dimension {at!r}")
            if not isinstance(dim, Dim):
                raise MecError(
                    f"dimension {at} of {name!r} must be a torch.export.Dim with a name, min and"
                    f" max, but is {dim!r}"
                )
            label = dim.__name__
            if not label.isidentifier() or not isinstance(dim.max, int):
                raise MecError(f"the size {label!r} of {name!r} needs a plain name, min and max")
            bounds = (int(dim.min), dim.max)
            if limits.setdefault(label, bounds) != bounds:
                raise MecError(f"the size {label!r} has two ranges, {limits[label]} and {bounds}")
            if given.setdefault(label, shape[at]) != shape[at]:
                raise MecError(
                    f"the size {label!r} is {given[label]} and {shape[at]} in the same example"
                )
            if not max(bounds[0], 2) <= shape[at] <= bounds[1]:
                raise MecError(
                    f"the size {label!r} is {shape[at]} in the example, but must be from"
                    f" {max(bounds[0], 2)} to {bounds[1]} there, since 1 is special to torch"
                )
    return limits, given


def ranges_of(
    graph: fx.Graph,
    names: Iterable[str],
    dynamic: Dynamic,
    limits: Mapping[str, tuple[int, int]],
    given: Mapping[str, int],
) -> Ranges:
    """Read the formulas that ``torch.export`` left in a graph.

    Args:
        graph: Whose nodes have symbolic values.
        names: Of the tensors that it takes, in order.
        dynamic: What the user asked for.
        limits: Of the sizes that range.
        given: Of them, in the example.

    Raises:
        MecError: A size that should range is fixed, or follows from another.
    """
    found: dict[Any, sympy.Symbol] = {}
    for node, name in zip(graph.find_nodes(op="placeholder"), names, strict=True):
        for at, dim in dynamic.get(name, {}).items():
            size = node.meta["val"].shape[at]
            label = dim.__name__
            symbol = _symbol(label)
            if not isinstance(size, torch.SymInt) or not size.node.expr.is_Symbol:
                raise MecError(f"the size {label!r} of {name!r} cannot range: it must be {size}")
            if found.setdefault(size.node.expr, symbol) != symbol:
                raise MecError(f"{label!r} and {found[size.node.expr].name!r} are one size")

    sizes: dict[str, Size] = {}
    shapes: dict[str, tuple[tuple[Size, ...], ...]] = {}
    for node in graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool):
            sizes[node.name] = _formula(value, found)
        leaves = value if isinstance(value, list | tuple) else [value]
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        if tensors:
            shapes[node.name] = tuple(
                tuple(_formula(size, found) for size in t.shape) for t in tensors
            )
    varying = {name: size for name, size in sizes.items() if not isinstance(size, int)}
    return Ranges(limits, given, varying, shapes)


def _formula(size: Any, symbols: Mapping[Any, sympy.Symbol]) -> Size:
    """A size of ``torch.export``'s in our symbols."""
    if not isinstance(size, torch.SymInt | torch.SymFloat | torch.SymBool):
        return size
    renamed: Any = sympy.sympify(size.node.expr).subs(symbols)
    return renamed if renamed.free_symbols else int(renamed)

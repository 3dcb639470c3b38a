"""Nested arguments and results: taken apart into named tensors, and put together again."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch.utils import _pytree as pytree

from rllib_mec.errors import MecError, unknown


@dataclass(frozen=True)
class Slot:
    """Where a tensor stands."""


@dataclass(frozen=True)
class Constant:
    """A value that is no tensor and holds none.

    Attributes:
        value: The value.
    """

    value: Any


@dataclass(frozen=True)
class Branch:
    """A container.

    Attributes:
        kind: Its class.
        names: What its children are called: keys, fields or positions.
        children: What it holds.
        build: Makes such a container from its children's values.
    """

    kind: type
    names: tuple[str, ...]
    children: tuple[Nest, ...]
    build: Callable[[list[Any]], Any]


Nest = Slot | Constant | Branch
"""What an argument or a result is made of."""


def take_apart(
    value: Any, is_slot: Callable[[Any], bool], where: str = "the value"
) -> tuple[Nest, list[Any]]:
    """Take a nested value apart into what it is made of and the tensors that stand in it.

    Lists, tuples, named tuples, mappings, dataclasses (transformers' ``ModelOutput`` is one) and
    what is registered with ``torch.utils._pytree`` are containers.

    Args:
        value: A tensor, or any nesting of such containers.
        is_slot: Whether something counts as a tensor.
        where: What the value is, for errors.

    Raises:
        MecError: An object of another class holds tensors.
    """
    if is_slot(value):
        return Slot(), [value]
    parts = _parts(value)
    if parts is None:
        held = getattr(value, "__dict__", None) or {}
        if any(is_slot(leaf) for leaf in pytree.tree_leaves(dict(held))):
            raise MecError(
                f"{where} is a {type(value).__name__}, whose tensors cannot be told apart:"
                " use a tuple, list, dict, NamedTuple or dataclass"
            )
        return Constant(value), []
    names, values, build = parts
    children: list[Nest] = []
    slots: list[Any] = []
    for item in values:
        child, found = take_apart(item, is_slot, where)
        children.append(child)
        slots += found
    return Branch(type(value), tuple(names), tuple(children), build), slots


def _parts(value: Any) -> tuple[list[str], list[Any], Callable[[list[Any]], Any]] | None:
    """A container's names and items, and what makes one of new items; None: it is none."""
    kind = type(value)
    node = pytree.SUPPORTED_NODES.get(pytree._get_node_type(value))
    if node is not None:
        items, context = node.flatten_fn(value)
        fields = getattr(kind, "_fields", None)
        keys = list(value) if isinstance(value, Mapping) else fields or range(len(items))
        if len(keys) != len(items):
            keys = range(len(items))
        return [*map(str, keys)], list(items), functools.partial(_unflatten, node, context)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f.name for f in dataclasses.fields(value) if f.init]
        items = [getattr(value, name) for name in fields]
        return fields, items, functools.partial(_from_fields, kind, fields)
    if isinstance(value, Mapping):
        return [*map(str, value)], [*value.values()], functools.partial(_from_items, kind, [*value])
    return None


def _unflatten(node: pytree.NodeDef, context: Any, items: list[Any]) -> Any:
    return node.unflatten_fn(items, context)


def _from_fields(kind: type, fields: list[str], items: list[Any]) -> Any:
    return kind(**dict(zip(fields, items, strict=True)))


def _from_items(kind: type, keys: list[Any], items: list[Any]) -> Any:
    return kind(zip(keys, items, strict=True))


def put_together(nest: Nest, tensors: Iterable[Any]) -> Any:
    """The value with these tensors; the inverse of :func:`take_apart`.

    Args:
        nest: What the value is made of.
        tensors: One for each slot, in order.
    """
    return _filled(nest, iter(tensors))


def _filled(nest: Nest, tensors: Iterator[Any]) -> Any:
    if isinstance(nest, Slot):
        return next(tensors)
    if isinstance(nest, Constant):
        return nest.value
    return nest.build([_filled(child, tensors) for child in nest.children])


def slot_names(nest: Nest, name: str = "") -> list[str]:
    """Names of the tensors, ``argument.key.position``.

    Args:
        nest: What they stand in.
        name: Of that itself.
    """
    if isinstance(nest, Slot):
        return [name]
    if isinstance(nest, Constant):
        return []
    prefix = f"{name}." if name else ""
    return [
        found
        for key, child in zip(nest.names, nest.children, strict=True)
        for found in slot_names(child, prefix + key)
    ]


def constants(nest: Nest) -> list[Any]:
    """What stands in a nest and is no tensor.

    Args:
        nest: To go through.
    """
    if isinstance(nest, Constant):
        return [nest.value]
    return [c for child in getattr(nest, "children", ()) for c in constants(child)]


def within(name: str, places: Iterable[str]) -> str | None:
    """The place, of some, in which a tensor stands, or None.

    Args:
        name: Of the tensor.
        places: Names of arguments, or of parts of them.
    """
    return next((p for p in places if f"{name}.".startswith(f"{p}.")), None)


def graft(nest: Nest, replacements: Iterator[Nest]) -> Nest:
    """The same with something else in each slot.

    Args:
        nest: What the slots stand in.
        replacements: One for each slot, in order.
    """
    if isinstance(nest, Slot):
        return next(replacements)
    if isinstance(nest, Constant):
        return nest
    children = tuple(graft(child, replacements) for child in nest.children)
    return dataclasses.replace(nest, children=children)


def prune(nest: Nest, places: Iterable[str], name: str = "") -> Nest:
    """The same with None in some places.

    Args:
        nest: What they stand in.
        places: Their names.
        name: Of that itself.
    """
    if name and name in places:
        return Constant(None)
    if not isinstance(nest, Branch):
        return nest
    prefix = f"{name}." if name else ""
    parts = zip(nest.names, nest.children, strict=True)
    children = tuple(prune(child, places, prefix + key) for key, child in parts)
    return dataclasses.replace(nest, children=children)


def plain(nest: Nest) -> Nest:
    """The same made of built-in containers, which need no code of the user's.

    Args:
        nest: With containers of any class: dataclasses and mappings become dicts, named tuples
            tuples.
    """
    if not isinstance(nest, Branch):
        return nest
    children = tuple(map(plain, nest.children))
    if nest.kind in (tuple, list, dict):
        return dataclasses.replace(nest, children=children)
    if nest.names == tuple(map(str, range(len(children)))) or issubclass(nest.kind, tuple):
        return Branch(tuple, nest.names, children, tuple)
    build = functools.partial(_from_items, dict, list(nest.names))
    return Branch(dict, nest.names, children, build)


def check_same(nest: Nest, given: Nest, name: str) -> None:
    """Check that a value is made of what another one was made of.

    Args:
        nest: What was traced.
        given: What is given now.
        name: The argument, for errors.

    Raises:
        MecError: A container, a key or a constant differs.
    """
    if isinstance(nest, Slot) and isinstance(given, Slot):
        return
    if isinstance(nest, Branch) and isinstance(given, Branch):
        for key in given.names:
            if key not in nest.names:
                raise unknown(f"part of {name!r}:", key, nest.names, show=12)
        if nest.names != given.names:
            raise MecError(
                f"{name!r} was traced with {_listed(nest.names)}, but got {_listed(given.names)}"
            )
        for key, a, b in zip(nest.names, nest.children, given.children, strict=True):
            check_same(a, b, f"{name}.{key}")
        return
    if isinstance(nest, Constant) and isinstance(given, Constant):
        with contextlib.suppress(Exception):  # an array's comparison is no answer
            if nest.value is given.value or bool(nest.value == given.value):
                return
    raise MecError(f"{name!r} was traced as {_told(nest)}, but is {_told(given)}")


def _listed(names: tuple[str, ...]) -> str:
    return f"{len(names)} parts ({', '.join(names[:6])}{', ...' if len(names) > 6 else ''})"


def _told(nest: Nest) -> str:
    if isinstance(nest, Slot):
        return "a tensor"
    if isinstance(nest, Branch):
        return f"a {nest.kind.__name__}"
    told = repr(nest.value)
    return told if len(told) < 60 and "\n" not in told else f"a {type(nest.value).__name__}"

"""What a DNN takes, in words: ``input_ids=int64[1,16]``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rllib_mec.errors import MecError, unknown

DTYPES = (
    "float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool",
)  # fmt: skip
"""Types that an input may have."""

HELP = "NAME=TYPE[SIZES] with the batch, such as input_ids=int64[1,16], or NAME=VALUE, such as n=3"
"""How an argument is given."""

_TENSOR = re.compile(r"(\w+)\[([\w.:, ]*)\]")
_RANGE = re.compile(r"([a-zA-Z_]\w*):(\d+)\.\.(\d+)")


@dataclass(frozen=True)
class Range:
    """A size that ranges, in words ``length:1..64``.

    Attributes:
        name: Of the size, the same wherever it is the same.
        low: Its least value.
        high: Its largest, at which the DNN is traced.
    """

    name: str
    low: int
    high: int


@dataclass(frozen=True)
class TensorInput:
    """A tensor of an argument.

    Attributes:
        dtype: One of :data:`DTYPES`.
        sizes: With the batch.
    """

    dtype: str
    sizes: tuple[int | Range, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes, where they range the largest."""
        return tuple(size.high if isinstance(size, Range) else size for size in self.sizes)


@dataclass(frozen=True)
class Inputs:
    """The arguments of a DNN.

    Attributes:
        parts: Name and tensor, or value, of each; a dot in a name leads into a dict, or into a list
            where all that follows it in such a place are positions.
    """

    parts: tuple[tuple[str, Any], ...]

    @property
    def ranges(self) -> dict[str, Range]:
        """The sizes that range, by name."""
        tensors = [part for _, part in self.parts if isinstance(part, TensorInput)]
        found = [size for tensor in tensors for size in tensor.sizes if isinstance(size, Range)]
        return {size.name: size for size in found}

    def dynamic(self) -> dict[str, dict[int, Any]]:
        """The same as :func:`rllib_mec.dnn.trace` takes them."""
        if not self.ranges:
            return {}
        from torch.export import Dim

        return {
            name: {
                at: Dim(size.name, min=size.low, max=size.high)
                for at, size in enumerate(part.sizes)
                if isinstance(size, Range)
            }
            for name, part in self.parts
            if isinstance(part, TensorInput)
        }

    def example(self, device: str = "cpu") -> dict[str, Any]:
        """Keyword arguments with tensors of zeros.

        Args:
            device: Where the tensors lie.
        """
        nested: dict[str, Any] = {}
        for name, part in self.parts:
            *path, last = name.split(".")
            place = nested
            for key in path:
                place = place.setdefault(key, {})
            if isinstance(part, TensorInput):
                part = _zeros(name, part.shape, part.dtype, device)
            place[last] = part
        return {name: _lists(value) for name, value in nested.items()}


def _lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    items = {key: _lists(item) for key, item in value.items()}
    if list(items) == [str(i) for i in range(len(items))]:
        return list(items.values())
    return items


def parse_inputs(label: str, given: Mapping[str, Any] | Iterable[str]) -> Inputs:
    """Arguments from what a user wrote.

    Args:
        label: Who gives them, for errors.
        given: ``{NAME: "TYPE[SIZES]"}``, or such pairs as texts ``NAME=TYPE[SIZES]``.

    Raises:
        MecError: One of them is neither that nor a value.
    """
    pairs = given.items() if isinstance(given, Mapping) else [_pair(label, t) for t in given]
    parts: dict[str, Any] = {}
    for name, text in pairs:
        if not all(re.fullmatch(r"\w+", key) for key in name.split(".")):
            raise MecError(f"{label}: {name!r} is no argument's name: expected {HELP}")
        for other in parts:
            if f"{other}.".startswith(f"{name}.") or f"{name}.".startswith(f"{other}."):
                raise MecError(f"{label}: {name!r} is given beside {other!r}")
        parts[name] = _part(f"{label}: {name}", text)
    if not any(isinstance(part, TensorInput) for part in parts.values()):
        raise MecError(f"{label} names no tensor: expected {HELP}")
    return Inputs(tuple(parts.items()))


def _pair(label: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise MecError(f"{label} must be sizes such as 3,224,224, or {HELP}, got {text!r}")
    return name.strip(), value.strip()


def _part(label: str, text: Any) -> Any:
    if not isinstance(text, str):
        return text
    found = _TENSOR.fullmatch(text)
    if found is None:
        try:
            value = json.loads(text)
        except ValueError:
            value = []
        if isinstance(value, (list, dict)):
            raise MecError(f"{label} must be such as int64[1,16], or a value, got {text!r}")
        return value
    dtype, sizes = found.groups()
    if dtype not in DTYPES:
        raise unknown(f"type of {label}:", dtype, DTYPES)
    try:
        return TensorInput(dtype, tuple(map(_size, sizes.split(","))) if sizes else ())
    except ValueError:
        raise MecError(
            f"{label} must have sizes such as [1,16] or, where one ranges, [1,length:1..64],"
            f" got {text!r}"
        ) from None


def _size(text: str) -> int | Range:
    found = _RANGE.fullmatch(text.strip())
    if found is None:
        return int(text)
    low, high = int(found[2]), int(found[3])
    if low >= high or high < 2:
        raise ValueError
    return Range(found[1], low, high)


def traced_with(shape: tuple[int, ...] | Inputs, device: str = "cpu") -> dict[str, Any]:
    """The arguments of :func:`rllib_mec.dnn.trace` for what a DNN takes.

    Args:
        shape: Of one RGB or other float input without the batch, or all arguments.
        device: Where the tensors lie.
    """
    if isinstance(shape, Inputs):
        return {"example_input": shape.example(device), "dynamic": shape.dynamic()}
    return {"example_input": _zeros("the input", (1, *shape), "float32", device)}


def _zeros(name: str, shape: tuple[int, ...], dtype: str, device: str) -> Any:
    import torch

    try:
        return torch.zeros(shape, dtype=getattr(torch, dtype), device=device)
    except (RuntimeError, OverflowError) as error:
        told = ",".join(map(str, shape))
        raise MecError(f"cannot make {name} of shape [{told}], which is too large") from error

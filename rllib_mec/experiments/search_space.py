"""Search spaces in YAML: ``{grid_search: [..]}``, ``{loguniform: [low, high]}`` and their kin.

A value of one key and a list is a search space: ``lr: {loguniform: [1e-5, 1e-3]}`` stands for
``tune.loguniform(1e-5, 1e-3)``. All of ``tune``'s samplers work under their own names.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from rllib_mec.errors import MecError, nearest, one_line

GRID = "grid_search"
SAMPLERS = (
    "choice",
    "lograndint",
    "loguniform",
    "qlograndint",
    "qloguniform",
    "qrandint",
    "qrandn",
    "quniform",
    "randint",
    "randn",
    "uniform",
)
"""Functions of ``ray.tune`` that draw one value; the YAML list holds their arguments."""

_MAX_CHECKED = 200
"""Variants checked before training; beyond, the rest of a huge grid is trusted."""


def _search_word(value: Any, path: str) -> str | None:
    """The search word of ``value`` if it is a search space, else None."""
    if not (isinstance(value, dict) and len(value) == 1):
        return None
    (word, argument), *_ = value.items()
    if word == GRID or word in SAMPLERS:
        if not isinstance(argument, list) or not argument:
            raise MecError(f"{path}: {word} needs a list that is not empty, got {argument!r}")
        return word
    if isinstance(argument, list) and isinstance(word, str):
        close = nearest(word, [GRID, *SAMPLERS], cutoff=0.75)
        if close:
            raise MecError(f"{path}: unknown search space {word!r}: did you mean {close!r}?")
    return None


def resolve(value: Any, path: str = "config") -> Any:
    """Turn the search spaces in a nested value into Tune's objects.

    Args:
        value: What the YAML held.
        path: Where it stood, for error messages.

    Raises:
        MecError: Misspelt or wrong arguments.
    """
    word = _search_word(value, path)
    if word == GRID:
        return {GRID: [resolve(item, path) for item in value[GRID]]}
    if word is not None:
        from ray import tune

        arguments = value[word]
        try:
            return tune.choice(arguments) if word == "choice" else getattr(tune, word)(*arguments)
        except (TypeError, ValueError, AssertionError) as error:
            raise MecError(f"{path}: {word}({arguments}): {one_line(error)}") from None
    if isinstance(value, dict):
        return {key: resolve(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, f"{path}[{i}]") for i, item in enumerate(value)]
    return value


def is_searched(value: Any) -> bool:
    """Whether a value holds a search space at any depth.

    Args:
        value: Any value of a resolved config.
    """
    from ray.tune.search.variant_generator import _has_unresolved_values

    return _has_unresolved_values({"value": value})


def only_searched(value: Any) -> Any:
    """The part of a value that holds search spaces.

    Args:
        value: A value for which :func:`is_searched` holds.
    """
    if isinstance(value, dict) and GRID not in value:
        return {key: only_searched(each) for key, each in value.items() if is_searched(each)}
    return value


def variants(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Concrete configs: every grid point, with one draw of each sampler.

    Args:
        config: The resolved config.
    """
    from ray.tune.search.variant_generator import generate_variants

    draws = generate_variants({"config": config}, random_state=np.random.RandomState(0))
    try:
        for _, spec in itertools.islice(draws, _MAX_CHECKED):
            yield spec["config"]
    except MecError:
        raise
    except Exception as error:
        raise MecError(f"config: search space: {one_line(error)}") from None


def overlay(base: Any, searched: Any) -> Any:
    """``base`` with the values of ``searched`` in it, dicts merged at every depth.

    Args:
        base: A dict, or a value to be replaced.
        searched: What replaces it; of a dict, key by key.
    """
    if isinstance(base, dict) and isinstance(searched, dict) and GRID not in searched:
        merged = dict(base)
        for key, value in searched.items():
            merged[key] = overlay(base.get(key), value)
        return merged
    return searched

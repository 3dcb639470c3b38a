"""Searches that are kept in the user's cache folder."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from rllib_mec.cache import cache_folder
from rllib_mec.policies.planner.plans import Plans
from rllib_mec.policies.planner.window_search import PlannerBudget, WindowSearch

Found = tuple[Plans, np.ndarray]


def searched(
    search: WindowSearch,
    shapes: np.ndarray,
    budget: PlannerBudget,
    known: Plans | None,
    *,
    seed: int,
    cache: bool,
) -> Found:
    """Search, or load what an equal search has found.

    Args:
        search: Of which MDs, and where.
        shapes: Window sizes, ``(L, k)``.
        budget: How long.
        known: Plans to begin with.
        seed: Of the search.
        cache: Whether to load, and to keep what is found.

    Returns:
        Plans and their expected costs.
    """
    file = _file(search, shapes, budget, seed) if cache else None
    found = _load(file) if file else None
    if found is None:
        search.rng = np.random.default_rng([seed, *search.devices])
        found = search.run(shapes, budget, known)
        if file:
            _save(file, found)
    return found


def _file(search: WindowSearch, shapes: np.ndarray, budget: PlannerBudget, seed: int) -> Path:
    """Where the plans of an equal search are kept."""
    package, mdp = Path(__file__).parents[2], search.mdp
    sources = [file for room in ("network", "envs") for file in package.glob(f"{room}/*.py")]
    sources += Path(__file__).parent.glob("*.py")
    # A user's laws are part of the question: their classes and where they are written.
    sources += [Path(file) for law in type(mdp).__mro__ if (file := _source(law))]
    asked = [
        type(mdp).__qualname__,
        mdp.scenario.physics,
        {**mdp.scenario.to_dict(), **mdp.settings},
        seed,
        dataclasses.astuple(budget),
        search.devices,
        search.distances_m,
        shapes,
    ]
    key = json.dumps(asked, default=lambda v: getattr(v, "tolist", v.__str__)())
    name = hashlib.sha256(key.encode()).hexdigest()[:24]
    return cache_folder("plans", set(sources)) / f"{name}.npz"


def _save(file: Path, found: Found) -> None:
    """Write plans at once or not at all; without a place to write, do nothing."""
    plans, cost = found
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=file.parent, suffix=".npz")
        with os.fdopen(handle, "wb") as stream:
            np.savez(stream, cost=cost, **plans._asdict())
        os.replace(temporary, file)
    except OSError:
        pass


def _load(file: Path) -> Found | None:
    """Plans that :func:`_save` has written; ``None`` if there are none that can be read."""
    try:
        with np.load(file) as arrays:
            return Plans(*(arrays[name] for name in Plans._fields)), arrays["cost"]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None


def _source(law: type) -> str | None:
    """The file that a class of a user's is written in; ``None`` where there is none to read."""
    try:
        return inspect.getsourcefile(law)
    except (OSError, TypeError):
        return None

"""Searches that are kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rllib_mec.cache import cache_folder
from rllib_mec.envs.mdp import MDP
from rllib_mec.network.mobility import trace_of
from rllib_mec.policies.planner.plans import Plans

Found = tuple[Plans, np.ndarray]
Kept = Callable[[Sequence[Any], Callable[[], Found]], Found]


def kept(mdp: MDP, asked: Sequence[Any], search: Callable[[], Found]) -> Found:
    """What an equal search has found, or else search.

    Args:
        mdp: In which to search.
        asked: Everything else that a search depends on.
        search: Searches.

    Returns:
        Plans and their expected costs.
    """
    file = _file(mdp, asked)
    found = _load(file)
    if found is None:
        found = search()
        _save(file, found)
    return found


def _file(mdp: MDP, asked: Sequence[Any]) -> Path:
    """Where the plans of an equal search are kept."""
    package = Path(__file__).parents[2]
    sources = [file for room in ("network", "envs") for file in package.glob(f"{room}/*.py")]
    sources += Path(__file__).parent.glob("*.py")
    # A user's laws are part of the question: their classes and where they are written.
    sources += [Path(file) for law in type(mdp).__mro__ if (file := _source(law))]
    sources += [Path(path)] if (path := trace_of(mdp.scenario)) else []
    fields = {**mdp.scenario.to_dict(), **mdp.settings}
    everything = [type(mdp).__qualname__, mdp.scenario.physics, fields, *asked]
    key = json.dumps(everything, default=lambda v: getattr(v, "tolist", v.__str__)())
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

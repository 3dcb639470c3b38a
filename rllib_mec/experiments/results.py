"""Training curves from the result folders that Ray Tune leaves, also while it still runs."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rllib_mec import registry, remote
from rllib_mec.checkpoints import results
from rllib_mec.errors import MecError

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_TRIAL_ID = re.compile(r"_[0-9a-f]{5,8}(_\d{5})?(_|$)")
_MOST_DIFFERENCES = 4


@dataclasses.dataclass(frozen=True)
class Trial:
    """What a trial's folder holds.

    Attributes:
        folder: The folder.
    """

    folder: Path

    @cached_property
    def results(self) -> pd.DataFrame:
        """The numbers of all results so far, under names such as ``env_runners/reward``."""
        table = pd.json_normalize(list(results(self.folder)), sep="/")
        return table.drop(columns=table.filter(regex="^config/")).select_dtypes("number")

    @cached_property
    def settings(self) -> dict[str, str]:
        """What it was configured with, but for the seed, under names such as ``env_config/dnn``."""
        return {key: value for key, value in self._params.items() if key != "seed"}

    @property
    def seed(self) -> str | None:
        """Its seed, if it has one."""
        seed = self._params.get("seed", "null")
        return None if seed == "null" else seed

    @cached_property
    def algorithm(self) -> str:
        """Name of its algorithm, as far as the folder's name tells it."""
        name = self.folder.name
        env = json.loads(self._params.get("env", "null"))
        if isinstance(env, str) and f"_{env}_" in name:
            name = name[: name.index(f"_{env}_")]
        else:
            name = _TRIAL_ID.split(name)[0]
        ours = (n for n, path in registry.ALGORITHMS.items() if path.endswith(f":{name}"))
        return next(ours, name)

    @cached_property
    def _params(self) -> dict[str, str]:
        try:
            params = json.loads((self.folder / "params.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):  # not there yet, or half written
            return {}
        if not isinstance(params, dict) or not params:
            return {}
        (flat,) = pd.json_normalize(params, sep="/").to_dict("records")
        # As text that is equal for equal settings.
        return {str(k): _ADDRESS.sub("", json.dumps(v, sort_keys=True)) for k, v in flat.items()}

    def curve(self, x: str, y: str) -> tuple[np.ndarray, np.ndarray]:
        """A metric over another one.

        Args:
            x: Name of a number that rises, e.g. ``num_env_steps_sampled_lifetime``.
            y: Name of a number.

        Returns:
            Both, ``(points,)``. Where a resumed trial did results again, the later ones count.
        """
        points = self.results.reindex(columns=[x, y]).replace(math.inf, math.nan).to_numpy()
        points = points[np.isfinite(points[:, 0])]
        # Of a resumed trial, what lies at or beyond a later result was done again.
        from_here = np.minimum.accumulate(points[::-1, 0])[::-1]
        again = np.append(points[:-1, 0] >= from_here[1:], [False] * min(1, len(points)))
        points = points[~again & np.isfinite(points[:, 1])]
        return points[:, 0], points[:, 1]


def find_trials(path: str | Path) -> list[Trial]:
    """The trials below a folder that have results.

    Args:
        path: Folder or URL of a trial, of an experiment, or of several of them.

    Raises:
        MecError: There is no such folder, or there are no results in it.
    """
    if remote.is_url(path):
        path = remote.copied(str(path), lambda file: file.name in ("result.json", "params.json"))
    folder = Path(path).expanduser()
    if not folder.exists():
        raise MecError(f"no such folder: {path}")
    if not folder.is_dir():
        raise MecError(f"{path} is a file, expected the folder of a trial or experiment")
    trials = [Trial(file.parent) for file in sorted(folder.resolve().rglob("result.json"))]
    found = [trial for trial in trials if len(trial.results)]
    if not found:
        raise MecError(
            f"no results in {remote.origin(Path(path))}: no result.json with a result in it, as"
            " `rllib train` writes it"
        )
    return found


def group_by_seed(trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    """Trials that differ in their seed only, under a label that says what the group differs by.

    Trials of equal settings and equal seeds are kept apart by their experiment; in one experiment
    they would be the same, so the longest stands for all.

    Args:
        trials: At least one.
    """
    groups: list[list[Trial]] = []
    for same in _split(trials, lambda t: (t.algorithm, tuple(sorted(t.settings.items())))):
        seeds = [trial.seed for trial in same if trial.seed is not None]
        if len(set(seeds)) == len(seeds):
            groups.append(same)
        else:
            groups += [_one_of_each(g) for g in _split(same, lambda t: t.folder.parent)]
    labels = [_label(group[0], [other[0] for other in groups]) for group in groups]
    labels = [
        f"{label}, {group[0].folder.parent.name}" if labels.count(label) > 1 else label
        for label, group in zip(labels, groups, strict=True)
    ]
    labels = [  # two experiments of one name
        f"{label} [{i}]" if labels.count(label) > 1 else label
        for i, label in enumerate(labels, start=1)
    ]
    return dict(zip(labels, groups, strict=True))


def _split(trials: Iterable[Trial], key: Any) -> list[list[Trial]]:
    groups: dict[Any, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(key(trial), []).append(trial)
    return list(groups.values())


def _one_of_each(trials: list[Trial]) -> list[Trial]:
    """The longest trial of each seed; of those without a seed, all."""
    groups = _split(trials, lambda t: t.folder if t.seed is None else t.seed)
    return [max(same, key=lambda t: len(t.results)) for same in groups]


def _label(trial: Trial, others: Sequence[Trial]) -> str:
    """The algorithm, if others have another one; then the settings in which trials differ.

    Algorithms have different settings, so between them only those of the environment count. Where
    too much differs, the experiment's name stands for what its trials have in common.
    """
    own = [other for other in others if other.algorithm == trial.algorithm]
    keys = _differing(own) + [k for k in _differing(others) if re.match(r"env(_config/|$)", k)]
    parts = [trial.algorithm] if len(own) < len(others) else []
    if len(set(keys)) > _MOST_DIFFERENCES:
        parts.append(trial.folder.parent.name)
        keys = _differing([o for o in own if o.folder.parent == trial.folder.parent])
    keys = list(dict.fromkeys(keys))[:_MOST_DIFFERENCES]
    parts += [f"{_short(key, keys)}={_shown(trial.settings.get(key))}" for key in keys]
    return ", ".join(parts or [trial.algorithm])


def _differing(trials: Sequence[Trial]) -> list[str]:
    keys = sorted({key for trial in trials for key in trial.settings})
    return [key for key in keys if len({trial.settings.get(key) for trial in trials}) > 1]


def _short(key: str, keys: Sequence[str]) -> str:
    """The last part of a key, if that is enough to tell it from the others."""
    name = key.rpartition("/")[2]
    alone = sum(other.rpartition("/")[2] == name for other in keys) == 1
    return name.lstrip("_") if alone else key


def _shown(value: str | None) -> str:
    if value is None:
        return "default"
    text = value.strip('"')
    return text if len(text) <= 24 else text[:23] + "…"

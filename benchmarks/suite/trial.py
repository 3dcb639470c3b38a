"""A trial: one policy, and everything that determines what it becomes."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from rllib_mec.cli import experiment
from rllib_mec.cli.stop_criteria import STEPS
from rllib_mec.envs.episodes import EVALUATION_DISTANCE_M
from rllib_mec.errors import MecError
from rllib_mec.policies import LocalOnly, Planner
from rllib_mec.simulator.scenario import Scenario

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "tuned_configs"

UNTRAINED = {"local only": LocalOnly, "planner": Planner}
"""Policies that need no training, by the name that tables give them."""

_SCENARIO_FIELDS = {field.name for field in dataclasses.fields(Scenario)}


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a policy is measured (Section V-A).

    Attributes:
        num_tasks: Tasks of every MD.
        distance_m: Distance of every MD to the base station.
        episodes: Seeded episodes.
    """

    num_tasks: int = 50
    distance_m: float = EVALUATION_DISTANCE_M
    episodes: int = 400

    @property
    def name(self) -> str:
        """Its file in the store."""
        return f"{self.num_tasks}_tasks_{self.distance_m:g}_m_{self.episodes}_episodes"


@dataclasses.dataclass(frozen=True)
class Trial:
    """A policy, trained from a config file with a seed or in no need of training.

    Two trials that come to the same experiment have the same :attr:`key`, however they are written,
    so that figures share them.

    Attributes:
        source: A file of ``tuned_configs/`` without its ``.yaml``, or a key of :data:`UNTRAINED`.
        scenario: Changes to the file's ``env_config``, or to Table III.
        settings: Changes to the file's ``config``.
        seed: Training seed; None of an untrained policy.
        steps: Env steps; None means the file's own ``stop``. Schedules of the file are stretched to
            it, so that a short training is a small copy of the long one.
    """

    source: str
    scenario: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seed: int | None = None
    steps: int | None = None

    @property
    def is_trained(self) -> bool:
        """Whether it has to be trained."""
        return self.source not in UNTRAINED

    @property
    def label(self) -> str:
        """What progress lines call it, e.g. ``emh_ppo num_devices=4 seed 0``."""
        changes = [f"{k}={v}" for k, v in {**self.scenario, **self.settings}.items()]
        seed = [] if self.seed is None else [f"seed {self.seed}"]
        return " ".join([self.source, *changes, *seed])

    @cached_property
    def spec(self) -> dict[str, Any]:
        """The experiment as ``rllib train`` takes it; of an untrained policy its scenario.

        Raises:
            MecError: There is no such file, or it has no number of steps to stop at.
        """
        if not self.is_trained:
            return {"policy": self.source, "env_config": dict(self.scenario)}
        _, spec = experiment.read_spec(str(CONFIGS / f"{self.source}.yaml"))
        spec = copy.deepcopy(spec)
        whole = (spec.get("stop") or {}).get(STEPS)
        if not isinstance(whole, int | float):
            raise MecError(f"tuned_configs/{self.source}.yaml must stop at {STEPS}")
        steps = int(self.steps or whole)
        config = {**(spec.get("config") or {}), **copy.deepcopy(dict(self.settings))}
        config = {key: stretched(value, steps / whole) for key, value in config.items()}
        config["env_config"] = {**(config.get("env_config") or {}), **self.scenario}
        config["seed"] = self.seed
        return {**spec, "config": config, "stop": {STEPS: steps}}

    @cached_property
    def key(self) -> str:
        """A readable name with a hash of all that determines the policy.

        Raises:
            MecError: As :attr:`spec`, or a field of the scenario is bad.
        """
        config = dict(self.spec.get("config", {}))
        env_config = config.pop("env_config", None) or self.spec.get("env_config", {})
        own = {key: value for key, value in env_config.items() if key in _SCENARIO_FIELDS}
        content = {
            "what": [self.spec.get(key) for key in ("policy", "run", "env", "stop")],
            "config": config,
            # Filled in: a default that is written out makes no other trial.
            "scenario": Scenario.from_dict(own).to_dict(),
            "env": {key: value for key, value in env_config.items() if key not in own},
        }
        text = json.dumps(content, sort_keys=True)
        seed = "" if self.seed is None else f"_seed{self.seed}"
        name = self.source.replace("/", "_").replace(" ", "_")
        return f"{name}{seed}_{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def experiment(self) -> experiment.Experiment:
        """The checked experiment of a trained trial, by the command line's own loader.

        Raises:
            MecError: Its file or a change to it is bad.
        """
        return experiment.check(self.key, self.spec, notify=lambda message: None)

    def to_dict(self) -> dict[str, Any]:
        """What the store keeps to tell a person what a key stands for."""
        return {**dataclasses.asdict(self), "spec": self.spec}


def stretched(value: Any, factor: float) -> Any:
    """A schedule ``[[0, v0], [t1, v1], ...]`` with its times stretched; anything else as it is."""
    pairs = isinstance(value, list) and value and all(
        isinstance(point, list) and len(point) == 2 for point in value
    )  # fmt: skip
    if not pairs or value[0][0] != 0:
        return value
    return [[round(time * factor), level] for time, level in value]

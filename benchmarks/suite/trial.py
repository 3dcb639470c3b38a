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

from rllib_mec.dnn import model_graph
from rllib_mec.dnn.models import is_own
from rllib_mec.envs.episodes import EVALUATION_DISTANCE_M
from rllib_mec.envs.mdp import MDP
from rllib_mec.envs.task_window import TaskWindowMDP
from rllib_mec.errors import MecError, unknown
from rllib_mec.experiments import experiment
from rllib_mec.experiments.stop_criteria import STEPS
from rllib_mec.registry import ENVIRONMENTS, POLICIES, make_mdp

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "tuned_configs"


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a policy is measured (Section V-A, unless drawn).

    Attributes:
        num_tasks: Tasks of every MD.
        distance_m: Distance of every MD to the base station.
        episodes: Seeded episodes.
        drawn: Whether queues and distances are drawn instead, as in training.
    """

    num_tasks: int = 50
    distance_m: float = EVALUATION_DISTANCE_M
    episodes: int = 400
    drawn: bool = False

    @property
    def name(self) -> str:
        """Its file in the store."""
        if self.drawn:
            return f"drawn_{self.episodes}_episodes"
        return f"{self.num_tasks}_tasks_{self.distance_m:g}_m_{self.episodes}_episodes"

    @property
    def beginnings(self) -> dict[str, Any]:
        """How episodes begin, as :func:`~rllib_mec.evaluation.evaluate` takes it."""
        if self.drawn:
            return {"draw": True}
        return {"num_tasks": self.num_tasks, "distance_m": self.distance_m}


@dataclasses.dataclass(frozen=True)
class Trial:
    """A policy, trained from a config file with a seed or in no need of training.

    Two trials that come to the same experiment have the same :attr:`key`, however they are written,
    so that figures share them.

    Attributes:
        source: A file of ``tuned_configs/`` without its ``.yaml``, or the registry's name of a
            policy that needs no training.
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
        return self.source not in POLICIES

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
            env = TaskWindowMDP.env_id
            return {"policy": self.source, "env": env, "config": {"env_config": self.scenario}}
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
    def mdp(self) -> MDP:
        """Where it decides.

        Raises:
            MecError: As :attr:`spec`, or a field is unknown or bad.
        """
        env = self.spec.get("env")
        if env not in ENVIRONMENTS:
            raise unknown("environment", env, ENVIRONMENTS)
        return make_mdp(env, self.spec["config"]["env_config"])

    @cached_property
    def key(self) -> str:
        """A readable name with a hash of all that determines the policy.

        Raises:
            MecError: As :attr:`mdp`.
        """
        config = {k: v for k, v in self.spec["config"].items() if k != "env_config"}
        content: dict[str, Any] = {
            "what": [self.spec.get(key) for key in ("policy", "run", "env", "stop")],
            "config": config,
            # Filled in: a default that is written out makes no other trial.
            "mdp": dataclasses.asdict(self.mdp),
        }
        scenario = content["mdp"]["scenario"]
        if scenario["dnn_input"] is None:  # so that a key is what it was before there was the field
            del scenario["dnn_input"]
        if is_own(scenario["dnn"]):  # whose name does not say what its factory makes today
            graph = model_graph(scenario["dnn"], self.mdp.scenario.dnn_input)
            content["dnn"] = [[node.name, node.macs, node.elements] for node in graph.nodes]
        text = json.dumps(content, sort_keys=True)
        seed = "" if self.seed is None else f"_seed{self.seed}"
        name = self.source.replace("/", "_")
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

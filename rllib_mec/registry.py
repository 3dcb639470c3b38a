"""The table of everything that has a name: environments, algorithms, policies without training.

To add one, add a line to :data:`ENVIRONMENTS`, :data:`ALGORITHMS` or :data:`POLICIES`; nothing else
needs to be edited.

Nothing is imported here before it is asked for by name.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rllib_mec.errors import unknown

if TYPE_CHECKING:
    from rllib_mec.envs.mdp import MDP
    from rllib_mec.network.scenario import Scenario
    from rllib_mec.policies.policy import Policy

ENVIRONMENTS: dict[str, str] = {
    "mec_task_window_v0": "rllib_mec.envs.task_window_v0:parallel_env",
    "mec_time_slot_v0": "rllib_mec.envs.time_slot_v0:parallel_env",
}
"""Env id -> ``module:class`` of the :class:`~rllib_mec.envs.parallel.MecParallelEnv`."""

ALGORITHMS: dict[str, str] = {
    "EMH-PPO": "rllib_mec.algorithms.emh_ppo.algorithm:EMHPPO",
    "EMHPPO": "rllib_mec.algorithms.emh_ppo.algorithm:EMHPPO",
    "H-PPO": "rllib_mec.algorithms.h_ppo:HPPO",
    "HPPO": "rllib_mec.algorithms.h_ppo:HPPO",
    "MAHPPO": "rllib_mec.algorithms.mahppo:MAHPPO",
    "AgileNN": "rllib_mec.algorithms.agile_nn:AgileNN",
}
"""Algorithm name -> ``module:class`` of the RLlib algorithm."""

POLICIES: dict[str, str] = {
    "local-only": "rllib_mec.policies.fixed:LocalOnly",
    "full-offload": "rllib_mec.policies.fixed:FullOffload",
    "random": "rllib_mec.policies.fixed:RandomPolicy",
    "planner": "rllib_mec.policies.planner.policy:Planner",
}
"""Name of a policy that needs no training -> ``module:class`` of the policy."""


def load(path: str) -> Any:
    """Import what a ``module:attribute`` path of the tables above names."""
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


def make_mdp(name: str, env_config: Mapping[str, Any]) -> MDP:
    """The MDP that an environment runs.

    Args:
        name: A key of :data:`ENVIRONMENTS`.
        env_config: The environment's keyword arguments; a ``render_mode`` does not matter.

    Raises:
        MecError: A key is unknown, with the nearest one suggested, or a value is bad.
    """
    fields = {key: value for key, value in env_config.items() if key != "render_mode"}
    return load(ENVIRONMENTS[name]).mdp_class.from_dict(fields)


def make_policy(name: str, where: MDP | Scenario) -> Policy:
    """Make a policy that needs no training.

    Args:
        name: A key of :data:`POLICIES`.
        where: The MDP it decides in; a scenario stands for its task-window MDP.

    Raises:
        MecError: There is no policy of that name, or it cannot decide there.
    """
    if name not in POLICIES:
        raise unknown("policy", name, POLICIES)
    return load(POLICIES[name])(where)


def algorithm_name(algorithm: type | None) -> str:
    """The first name of :data:`ALGORITHMS` for an algorithm's class; else the class's own name."""
    if algorithm is None:
        return "the algorithm"
    path = f"{algorithm.__module__}:{algorithm.__qualname__}"
    return next((name for name, own in ALGORITHMS.items() if own == path), algorithm.__name__)

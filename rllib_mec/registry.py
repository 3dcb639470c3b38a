"""The table of everything that has a name: environments, algorithms, policies without training.

To add one here, add a line to :data:`ENVIRONMENTS`, :data:`ALGORITHMS` or :data:`POLICIES`; nothing
else needs to be edited. Other packages add theirs by :mod:`rllib_mec.plugin`. A class path
``pkg.module:Name`` does wherever a name does.

Nothing is imported here before it is asked for by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rllib_mec.tables import Table

if TYPE_CHECKING:
    from rllib_mec.envs.mdp import MDP
    from rllib_mec.network.scenario import Scenario
    from rllib_mec.policies.policy import Policy

ENVIRONMENTS = Table(
    "environment",
    {
        "mec_task_window_v0": "rllib_mec.envs.task_window_v0:parallel_env",
        "mec_task_stream_v0": "rllib_mec.envs.task_stream_v0:parallel_env",
        "mec_time_slot_v0": "rllib_mec.envs.time_slot_v0:parallel_env",
    },
    check="rllib_mec.plugin:env_class",
)
"""Env id -> ``module:class`` of the :class:`~rllib_mec.envs.parallel.MecParallelEnv`."""

ALGORITHMS = Table(
    "algorithm",
    {
        "EMH-PPO": "rllib_mec.algorithms.emh_ppo.algorithm:EMHPPO",
        "EMHPPO": "rllib_mec.algorithms.emh_ppo.algorithm:EMHPPO",
        "H-PPO": "rllib_mec.algorithms.h_ppo:HPPO",
        "HPPO": "rllib_mec.algorithms.h_ppo:HPPO",
        "MAHPPO": "rllib_mec.algorithms.mahppo:MAHPPO",
        "AgileNN": "rllib_mec.algorithms.agile_nn:AgileNN",
        "MAPPO": "rllib_mec.algorithms.mappo:MAPPO",
        "MAT": "rllib_mec.algorithms.mat:MAT",
    },
    check="rllib_mec.plugin:algorithm_class",
)
"""Algorithm name -> ``module:class`` of the RLlib algorithm."""

POLICIES = Table(
    "policy",
    {
        "local-only": "rllib_mec.policies.fixed:LocalOnly",
        "full-offload": "rllib_mec.policies.fixed:FullOffload",
        "random": "rllib_mec.policies.fixed:RandomPolicy",
        "neurosurgeon": "rllib_mec.policies.heuristics:Neurosurgeon",
        "round-robin": "rllib_mec.policies.heuristics:RoundRobin",
        "shortest-queue": "rllib_mec.policies.heuristics:ShortestQueue",
        "deadline-first": "rllib_mec.policies.heuristics:DeadlineFirst",
        "planner": "rllib_mec.policies.planner.policy:Planner",
    },
    check="rllib_mec.plugin:policy_class",
)
"""Name of a policy that needs no training -> ``module:class`` of the policy."""

VIEW_ARGUMENTS = ("actions", "power_levels", "fixed_partition", "observe_mask")
"""Arguments of an environment that say how agents see their actions."""

RANDOMIZE = "randomize"
"""Key of an ``env_config`` for scenarios to be drawn in training."""


def make_mdp(name: str, env_config: Mapping[str, Any]) -> MDP:
    """The MDP that an environment runs.

    Args:
        name: A name of :data:`ENVIRONMENTS`, or a class path.
        env_config: The environment's keyword arguments; how it is seen, and what is drawn besides
            in training, does not matter.

    Raises:
        MecError: A key is unknown, with the nearest one suggested, or a value is bad.
    """
    others = {"render_mode", RANDOMIZE, *VIEW_ARGUMENTS}
    fields = {key: value for key, value in env_config.items() if key not in others}
    return ENVIRONMENTS.load(name).mdp_class.from_dict(fields)


def make_policy(name: str, where: MDP | Scenario) -> Policy:
    """Make a policy that needs no training.

    Args:
        name: A name of :data:`POLICIES`, or a class path.
        where: The MDP it decides in; a scenario stands for its task-window MDP.

    Raises:
        MecError: There is no policy of that name, or it cannot decide there.
    """
    return POLICIES.load(name)(where)


def algorithm_name(algorithm: type | None) -> str:
    """The first name of :data:`ALGORITHMS` for an algorithm's class; else the class's own name.

    Args:
        algorithm: The class; ``None`` where a config has none.
    """
    return "the algorithm" if algorithm is None else ALGORITHMS.name_of(algorithm)

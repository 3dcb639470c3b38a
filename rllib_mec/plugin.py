"""Enters the names of :mod:`rllib_mec.registry` into Ray's own tables.

Ray is not imported here. Our names enter its tables when Ray is imported, now or later, so that
``import rllib_mec`` stays fast and ``PPOConfig().environment("mec_task_window_v0")`` works in any
import order.
"""

from __future__ import annotations

import functools
from typing import Any

import wrapt

from rllib_mec.registry import ALGORITHMS, ENVIRONMENTS, load


def make_rllib_env(name: str, env_config: dict[str, Any]) -> Any:
    """Make a registered environment as an RLlib ``MultiAgentEnv``.

    Args:
        name: A key of :data:`ENVIRONMENTS`.
        env_config: The environment's keyword arguments.
    """
    from rllib_mec.algorithms.multi_agent_env import PettingZooMultiAgentEnv

    return PettingZooMultiAgentEnv(load(ENVIRONMENTS[name])(**env_config))


def _load_algorithm(name: str) -> tuple[type, Any]:
    algorithm = load(ALGORITHMS[name])
    return algorithm, algorithm.get_default_config()


def _register_envs(ray_tune_registry: Any) -> None:
    for name in ENVIRONMENTS:
        ray_tune_registry.register_env(name, functools.partial(make_rllib_env, name))


def _register_algorithms(rllib_registry: Any) -> None:
    for name in ALGORITHMS:
        # RLlib's own table: a name and a function that imports the algorithm on its first use.
        rllib_registry.ALGORITHMS[name] = functools.partial(_load_algorithm, name)


@functools.cache
def register() -> None:
    """Enter all names into Ray's tables, now if Ray is imported, else when it is; idempotent."""
    wrapt.register_post_import_hook(_register_envs, "ray.tune.registry")
    wrapt.register_post_import_hook(_register_algorithms, "ray.rllib.algorithms.registry")

"""What may stand in ``env_config``: by the environment, and by the algorithm that trains on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rllib_mec.algorithms.randomize import refuse_randomize
from rllib_mec.envs.action_views import view_of
from rllib_mec.envs.mdp import MDP
from rllib_mec.errors import MecError, one_line
from rllib_mec.registry import ENVIRONMENTS, VIEW_ARGUMENTS, algorithm_name, make_mdp


def decides_for_all(config: Any) -> bool:
    """Whether a config is of EMH-PPO's kind: one module decides for all MDs, on worlds of its own.

    Args:
        config: An ``AlgorithmConfig``.
    """
    return hasattr(config, "joint_module_class")


def check_env_config(config: Any) -> None:
    """Refuse an ``env_config`` with what its environment, or the algorithm, does not take.

    Args:
        config: The ``AlgorithmConfig``; its env is one of ours.

    Raises:
        MecError: A key is unknown, a value is bad, or it would have no effect.
    """
    given = {key: value for key, value in config.env_config.items() if value is not None}
    if decides_for_all(config):
        name = algorithm_name(config.algo_class)
        for key in VIEW_ARGUMENTS:
            if key in given and (key, given[key]) != ("actions", "dict"):
                raise MecError(
                    f"{name} has a distribution of its own for the dict actions of all MDs: "
                    f"{key}={given[key]!r} is for RLlib's algorithms, leave it out"
                )
        if "render_mode" in given:
            raise MecError(
                f"{name} does not draw its worlds: leave out "
                f"render_mode={given['render_mode']!r}, and use rllib-mec render"
            )
    check_mdp(str(config.env), config.env_config)
    refuse_randomize(config)


def check_mdp(env: str, env_config: Mapping[str, Any]) -> MDP:
    """The ``MDP`` of one of our environments.

    Args:
        env: Its name, or a class path.
        env_config: Its keyword arguments.

    Raises:
        MecError: Unknown key or a value out of its range.
    """
    try:
        ENVIRONMENTS.load(env).check_render_mode(env_config.get("render_mode"))
        mdp = make_mdp(env, env_config)
        view_of(mdp.scenario, env_config)
        return mdp
    except (TypeError, ValueError) as error:
        raise MecError(f"env_config: {one_line(error)}") from None

"""What RLlib's own algorithms cannot do with a view of our actions, said before training starts.

``benchmarks/stock_rllib.py`` measures the table behind it.
"""

from __future__ import annotations

from typing import Any

from rllib_mec.algorithms.env_config import check_env_config, decides_for_all
from rllib_mec.errors import MecError
from rllib_mec.registry import ENVIRONMENTS

_FLAT = "give env_config {actions: flat}"
_CONTINUOUS = "give env_config {actions: continuous, fixed_partition: K}"


def check_stock(config: Any) -> None:
    """Refuse a setting that would fail inside Ray with a traceback.

    Args:
        config: The ``AlgorithmConfig`` of an algorithm of RLlib's; those of ours check themselves
            and pass, and of other environments only what RLlib ignores is refused.

    Raises:
        MecError: RLlib would ignore an ``observation_filter``; the environment does not take its
            ``env_config``; the algorithm does not take the view's space, or RLlib cannot evaluate
            greedily or use an LSTM with it, and says which view can; or it has one policy for one
            agent.
    """
    if decides_for_all(config):
        return
    if config.observation_filter not in (None, "NoFilter"):
        raise MecError(
            f"RLlib's new API stack ignores observation_filter={config.observation_filter!r}: give "
            "an env_to_module_connector that returns ray.rllib.connectors.env_to_module's "
            "MeanStdFilter"
        )
    if config.env not in ENVIRONMENTS:
        return
    check_env_config(config)
    view = config.env_config.get("actions", "dict")
    name = config.algo_class.__name__
    if name == "DQN":
        raise MecError(
            "DQN chooses one of a few actions, and an MD decides many things at once: "
            f"take PPO, APPO or IMPALA and {_FLAT}"
        )
    if name == "SAC" and view != "continuous":
        raise MecError(f"SAC takes continuous actions only, not actions={view!r}: {_CONTINUOUS}")
    has_lstm = config.model_config.get("use_lstm")
    if name == "SAC" and has_lstm:
        raise MecError("RLlib's SAC has no networks with an LSTM: take PPO, or leave use_lstm out")
    if view == "dict" and _evaluates_greedily(config):
        raise MecError(f"RLlib cannot evaluate a Dict action with explore=False: {_FLAT}")
    if view == "dict" and has_lstm:
        raise MecError(f"RLlib cannot use an LSTM with a Dict action: {_FLAT}")
    if not config.is_multi_agent:
        raise MecError(
            f"{name} must be told who acts by which policy in {config.env}: "
            "give policies: [shared] and policy_mapping_fn: "
            "rllib_mec.algorithms.multi_agent_env:one_policy_for_all"
        )


def check_restore(config: Any) -> None:
    """Refuse to restore what Ray cannot: its ``restore_from_path`` takes env runners for granted.

    Args:
        config: The ``AlgorithmConfig`` of what is to be restored.

    Raises:
        MecError: It learns offline, without an environment.
    """
    if config.env is None:
        raise MecError(
            f"RLlib cannot restore {config.algo_class.__name__} without an environment: "
            "train it anew"
        )


def _evaluates_greedily(config: Any) -> bool:
    if not config.evaluation_interval:
        return False
    changes = config.evaluation_config or {}
    changes = changes if isinstance(changes, dict) else changes.to_dict()
    return changes.get("explore", config.explore) is False

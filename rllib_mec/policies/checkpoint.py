"""A trained checkpoint as a policy."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from rllib_mec.checkpoints import read_info
from rllib_mec.envs.mdp import MDP
from rllib_mec.errors import MecError, one_line
from rllib_mec.policies.policy import Policy
from rllib_mec.registry import ENVIRONMENTS, algorithm_name, make_mdp

_MODULES = pathlib.Path("learner_group", "learner", "rl_module")


def load_policy(path: str | pathlib.Path) -> Policy:
    """Load a checkpoint as a policy that takes the most likely action.

    Args:
        path: As for :func:`rllib_mec.checkpoints.find_checkpoint`.

    Returns:
        The policy; its ``mdp`` is the one it was trained on.

    Raises:
        MecError: There is no checkpoint, or it was trained on an env that is not of this package,
            with connectors of the user's, or by a version whose networks have other shapes.
    """
    from ray.rllib.core.rl_module.multi_rl_module import MultiRLModule

    checkpoint = read_info(path)
    config = checkpoint.config
    if config.env not in ENVIRONMENTS:
        raise MecError(
            f"the checkpoint {checkpoint.path} was trained on {config.env!r}, "
            f"not on one of {', '.join(ENVIRONMENTS)}"
        )
    # Ray keeps the connectors' makers under these names alone.
    makers = (config._env_to_module_connector, config._module_to_env_connector)
    if any(makers) or config.observation_filter != "NoFilter":
        raise MecError(
            f"the checkpoint {checkpoint.path} was trained with connectors or an "
            "observation_filter of its own, which a policy does not run; "
            "use Algorithm.from_checkpoint and evaluate()"
        )
    mdp = make_mdp(config.env, config.env_config)
    try:
        modules = MultiRLModule.from_checkpoint(checkpoint.path / _MODULES)
    except Exception as error:  # whatever Torch or the modules make of weights of another shape
        raise MecError(
            f"the checkpoint {checkpoint.path} does not fit this version of rllib_mec: "
            f"{one_line(error)}"
        ) from None
    module = modules[next(iter(modules.keys()))]
    name = algorithm_name(checkpoint.algorithm)
    if getattr(module, "decides_for_all", False):
        return JointModulePolicy(name, mdp, module)
    return AgentModulesPolicy(name, mdp, modules, config)


class JointModulePolicy(Policy):
    """One module that decides for all MDs from the global state.

    Args:
        name: How tables call it.
        mdp: What it was trained on.
        module: The joint module.
    """

    def __init__(self, name: str, mdp: MDP, module: Any):
        """Wrap the module."""
        super().__init__(mdp)
        self.name = name
        self.module = module

    def decide(self, observation: np.ndarray) -> dict[str, np.ndarray]:
        """Take the most likely action of all MDs."""
        import torch
        from ray.rllib.core.columns import Columns

        obs = torch.as_tensor(observation, dtype=torch.float32)
        with torch.no_grad():
            outputs = self.module.forward_inference({Columns.OBS: obs})
        inputs = outputs[Columns.ACTION_DIST_INPUTS]
        dist = self.module.get_inference_action_dist_cls().from_logits(inputs)
        return self.module.layout.playable(dist.to_deterministic().sample())


class AgentModulesPolicy(Policy):
    """Modules of a stock RLlib algorithm, each deciding for the MDs mapped to it.

    Args:
        name: How tables call it.
        mdp: What they were trained on.
        modules: The ``MultiRLModule``.
        config: The algorithm's config, for the mapping and how actions are scaled.
    """

    def __init__(self, name: str, mdp: MDP, modules: Any, config: Any):
        """Wrap the modules."""
        super().__init__(mdp)
        self.name = name
        self._modules = modules
        self._normalize_actions = config.normalize_actions
        agents = [f"md_{n}" for n in range(self.scenario.num_devices)]
        mapping = config.policy_mapping_fn if config.is_multi_agent else None
        self._module_ids = [
            next(iter(modules.keys())) if mapping is None else mapping(agent, None)
            for agent in agents
        ]

    def decide(self, observation: np.ndarray) -> dict[str, np.ndarray]:
        """Take the most likely action of each MD, scaled as RLlib's connectors do."""
        import torch
        from ray.rllib.core.columns import Columns
        from ray.rllib.utils.spaces.space_utils import unsquash_action

        per_agent = []
        for n, module_id in enumerate(self._module_ids):
            module = self._modules[module_id]
            identity = np.zeros((len(observation), self.scenario.num_devices), np.float32)
            identity[:, n] = 1.0
            obs = torch.as_tensor(np.concatenate([observation, identity], axis=1))
            with torch.no_grad():
                outputs = module.forward_inference({Columns.OBS: obs})
            inputs = outputs[Columns.ACTION_DIST_INPUTS]
            dist = module.get_inference_action_dist_cls().from_logits(inputs)
            action = {h: v.numpy() for h, v in dist.to_deterministic().sample().items()}
            if self._normalize_actions:
                power: Any = unsquash_action(action["power"], module.action_space["power"])
                action["power"] = power
            per_agent.append({**action, "power": np.clip(action["power"], 0.0, 1.0)})
        return {h: np.stack([action[h] for action in per_agent], axis=1) for h in per_agent[0]}

"""A trained checkpoint as a policy."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
from typing_extensions import Self

from rllib_mec.checkpoints import load_modules, read_info
from rllib_mec.envs import laws
from rllib_mec.envs.action_views import view_of
from rllib_mec.envs.actions import played_points
from rllib_mec.envs.mdp import MDP
from rllib_mec.envs.observation import for_agent
from rllib_mec.envs.task_window import as_mdp
from rllib_mec.errors import MecError
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies.policy import Policy
from rllib_mec.registry import ENVIRONMENTS, RANDOMIZE, algorithm_name, make_mdp

_HINT = "; EMH-PPO trained with model_config {model: set} carries over"


def load_policy(path: str | pathlib.Path, where: MDP | Scenario | None = None) -> Policy:
    """Load a checkpoint as a policy that takes the most likely action.

    Args:
        path: As for :func:`rllib_mec.checkpoints.find_checkpoint`.
        where: The MDP it is to decide in, or a scenario for its task-window MDP; that which it was
            trained on by default. Only networks that are functions of sets (MAPPO's, MAT's, and
            EMH-PPO's with ``model_config: {model: set}``) take one of another shape.

    Returns:
        The policy.

    Raises:
        MecError: There is no checkpoint, or one that is incomplete, or it was trained on an env
            that is not of this package, with connectors of the user's, or by a version whose
            networks have other shapes; or ``where`` is of a shape that it does not take.
    """
    trained = _load_trained(path)
    return trained if where is None else trained.on(as_mdp(where))


def _load_trained(path: str | pathlib.Path) -> Policy:
    checkpoint = read_info(path)
    config = checkpoint.config
    if config.env not in ENVIRONMENTS:
        raise MecError(
            f"the checkpoint {checkpoint.path} was trained on {config.env!r}, "
            f"not on one of {', '.join(ENVIRONMENTS)}; one of your own must be registered here too"
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
    modules = load_modules(checkpoint.path)
    module = modules[next(iter(modules.keys()))]
    name = algorithm_name(checkpoint.algorithm)
    if getattr(module, "decides_for_all", False):
        policy = JointModulePolicy(name, mdp, module)
        policy.randomized = config.env_config.get(RANDOMIZE) or {}
        return policy
    _check_agent_modules(checkpoint.path, modules)
    return AgentModulesPolicy(name, mdp, modules, config)


def _check_agent_modules(path: pathlib.Path, modules: Any) -> None:
    """Refuse what a policy cannot do that is asked for one step at a time.

    Raises:
        MecError: A module keeps a state between steps.
    """
    if any(module.is_stateful() for _, module in modules.items()):
        raise MecError(
            f"the checkpoint {path} keeps a state from step to step (use_lstm), "
            "which a policy here does not: evaluate it by RLlib's evaluation_interval"
        )


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
        self.carries_over = getattr(module, "carries_over", False)
        self.hint = "" if self.carries_over else _HINT

    def on(self, mdp: MDP) -> Self:
        """This policy, to decide in another MDP; see the base class."""
        if not self.carries_over:
            return super().on(mdp)
        return self if mdp == self.mdp else type(self)(self.name, mdp, self.module.on(mdp))

    def decide(self, observation: np.ndarray) -> dict[str, np.ndarray]:
        """Take the most likely action of all MDs; see the base class."""
        import torch
        from ray.rllib.core.columns import Columns

        obs = torch.as_tensor(observation, dtype=torch.float32)
        seen = laws.seen_mask_columns(self.mdp, observation)
        masks = {name: torch.from_numpy(mask) for name, mask in seen.items()}
        with torch.no_grad():
            outputs = self.module.forward_inference({Columns.OBS: obs, **masks})
        if (actions := outputs.get(Columns.ACTIONS)) is None:
            inputs = outputs[Columns.ACTION_DIST_INPUTS]
            dist = self.module.get_inference_action_dist_cls().from_logits(inputs)
            actions = dist.to_deterministic().sample()
        return self.module.layout.playable(actions)


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
        self._view = view_of(mdp.scenario, config.env_config)
        self._normalize_actions = config.normalize_actions
        agents = [f"md_{n}" for n in range(self.scenario.num_devices)]
        mapping = config.policy_mapping_fn if config.is_multi_agent else None
        self._module_ids = [
            next(iter(modules.keys())) if mapping is None else mapping(agent, None)
            for agent in agents
        ]

    def decide(self, observation: np.ndarray) -> dict[str, np.ndarray]:
        """Take the most likely action of each MD, scaled as RLlib's connectors do.

        See the base class.
        """
        import torch
        import tree
        from ray.rllib.core.columns import Columns

        per_agent = []
        masks: dict[str, np.ndarray] = {}
        if self._view.observe_mask:
            masks = laws.action_mask(self.mdp, laws.decoded(self.mdp, observation))
        for n, module_id in enumerate(self._module_ids):
            module = self._modules[module_id]
            own = for_agent(observation, n, self.scenario.num_devices)
            own_masks = {name: mask[:, n] for name, mask in masks.items()}
            seen = self._view.seen(own, self._view.mask(own_masks) if masks else None)
            obs = tree.map_structure(torch.as_tensor, seen)
            with torch.no_grad():
                outputs = module.forward_inference({Columns.OBS: obs})
            inputs = outputs[Columns.ACTION_DIST_INPUTS]
            dist = module.get_inference_action_dist_cls().from_logits(inputs)
            per_agent.append(self._played(dist.to_deterministic().sample(), module.action_space))
        every = {h: np.stack([action[h] for action in per_agent], axis=1) for h in per_agent[0]}
        return {**every, "partition": played_points(every["partition"], self.scenario)}

    def _played(self, action: Any, space: Any) -> dict[str, np.ndarray]:
        """What a module's action stands for, as RLlib's connectors and the view make it.

        Args:
            action: Tensors in the structure of the space, ``(B, ...)``.
            space: The module's action space.
        """
        import tree
        from gymnasium import spaces
        from ray.rllib.utils.spaces.space_utils import get_base_struct_from_space, unsquash_action

        def within(values: np.ndarray, own: spaces.Space) -> np.ndarray:
            return np.clip(values, 0.0, 1.0) if isinstance(own, spaces.Box) else values

        struct = get_base_struct_from_space(space)
        played = tree.map_structure(lambda values: values.numpy(), action)
        if self._normalize_actions:
            played = unsquash_action(played, struct)
        played = tree.map_structure(within, played, struct)
        return self._view.decode(played)

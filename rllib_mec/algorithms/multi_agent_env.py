"""A PettingZoo ``ParallelEnv`` as an RLlib ``MultiAgentEnv``."""

from __future__ import annotations

from typing import Any

from pettingzoo import ParallelEnv
from ray.rllib.env.multi_agent_env import MultiAgentEnv


class PettingZooMultiAgentEnv(MultiAgentEnv):
    """Lets stock RLlib algorithms train on a PettingZoo ``ParallelEnv``.

    RLlib's own ``ParallelPettingZooEnv`` never signals the end of an episode in which some agents
    terminate and others truncate, orders its agents by a set, and cannot render. This one ends the
    episode when no agent is left, keeps the env's agent order, and renders. RLlib takes an episode
    for ended once all agents that it knows have left, even if others have just joined: the last to
    leave is then reported a step later.

    Args:
        env: The environment to adapt.
    """

    def __init__(self, env: ParallelEnv):
        """Adapt ``env``."""
        super().__init__()
        self.par_env = env
        self.possible_agents = list(env.possible_agents)
        self.agents = list(env.possible_agents)
        self.observation_spaces = {a: env.observation_space(a) for a in self.possible_agents}
        self.action_spaces = {a: env.action_space(a) for a in self.possible_agents}
        self.metadata = getattr(env, "metadata", {})
        self.render_mode = getattr(env, "render_mode", None)
        self._acting: set[str] = set()
        self._held: dict[str, Any] = {}

    def reset(
        self, *, seed: int | None = None, options: dict | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode; returns observations and infos per agent; see the base class."""
        observations, infos = self.par_env.reset(seed=seed, options=options)
        self.agents = list(self.par_env.agents)
        self._acting, self._held = set(observations), {}
        return observations, infos

    def step(self, action_dict: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        """Step all agents; ``"__all__"`` is set once no agent is left; see the base class."""
        observations, rewards, terminateds, truncateds, infos = self.par_env.step(action_dict)
        over = not self.par_env.agents
        truncated = any(truncateds.values())
        held, self._held = self._held, {}
        if not over and all(terminateds.get(agent, True) for agent in self._acting):
            last = next(agent for agent in terminateds if agent in self._acting)
            self._held = {last: observations.pop(last)}
            del terminateds[last]
        observations |= held
        # Those that hear of this step, with the ones that it was the last of, as RLlib's check of a
        # new environment wants it: else one whose first step ends the episode is refused.
        self.agents = list(observations)
        self._acting = set(self.par_env.agents)
        return (
            observations,
            {agent: rewards[agent] for agent in rewards if agent in action_dict},
            {**terminateds, **dict.fromkeys(held, True), "__all__": over and not truncated},
            {**truncateds, "__all__": over and truncated},
            infos,
        )

    def render(self) -> Any:
        """Render the adapted env in its render mode."""
        return self.par_env.render()

    def close(self) -> None:
        """Close the adapted env."""
        self.par_env.close()


def one_policy_for_all(agent_id: str, episode: Any = None, **kwargs: Any) -> str:
    """A ``policy_mapping_fn`` that gives all agents the policy ``"shared"``.

    Args:
        agent_id: Any agent's.
        episode: Unused, for RLlib's interface.
        **kwargs: Likewise.
    """
    return "shared"

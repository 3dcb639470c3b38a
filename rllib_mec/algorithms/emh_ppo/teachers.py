"""Who demonstrates: a planner, or search that betters a rule of thumb and then the networks."""

from __future__ import annotations

from typing import Any

from rllib_mec.envs.mdp import MDP
from rllib_mec.policies import Lookahead, Planner, PlannerBudget, Policy, ShortestQueue
from rllib_mec.policies.checkpoint import JointModulePolicy
from rllib_mec.registry import algorithm_name


def teacher_of(config: Any, mdp: MDP, module: Any, lesson: int) -> Policy:
    """The teacher that a config asks for, in one of its scenarios.

    Args:
        config: EMH-PPO's.
        mdp: Where it decides.
        module: The joint module, which search betters from the second lesson on.
        lesson: Counted from 0.
    """
    if config.teacher == "planner":
        # Plans of one place, whose powers follow the distance: those of several are 7 % better
        # in profile "si", but the networks do not learn which of them belongs where.
        return Planner(mdp, budget=PlannerBudget(places=1))
    policy: Policy = ShortestQueue(mdp)
    if lesson:
        module = module.on(mdp) if module.carries_over else module
        policy = JointModulePolicy(algorithm_name(config.algo_class), mdp, module)
    return Lookahead(policy, config.search_candidates, seed=(config.seed or 0) + lesson)

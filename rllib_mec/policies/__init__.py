"""Policies that decide a task window: without training, or from a trained checkpoint."""

from rllib_mec.policies.checkpoint import load_policy
from rllib_mec.policies.fixed import FullOffload, LocalOnly, RandomPolicy
from rllib_mec.policies.heuristics import DeadlineFirst, Neurosurgeon, RoundRobin, ShortestQueue
from rllib_mec.policies.lookahead import Lookahead
from rllib_mec.policies.planner.policy import Planner, PlannerBudget, check_plannable
from rllib_mec.policies.policy import Policy

__all__ = [
    "DeadlineFirst",
    "FullOffload",
    "LocalOnly",
    "Lookahead",
    "Neurosurgeon",
    "Planner",
    "PlannerBudget",
    "Policy",
    "RandomPolicy",
    "RoundRobin",
    "ShortestQueue",
    "check_plannable",
    "load_policy",
]

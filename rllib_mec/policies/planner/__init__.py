"""A near-optimal, model-based reference: it plans, and learns nothing."""

from rllib_mec.policies.planner.policy import Planner, check_plannable
from rllib_mec.policies.planner.window_search import PlannerBudget

__all__ = ["Planner", "PlannerBudget", "check_plannable"]

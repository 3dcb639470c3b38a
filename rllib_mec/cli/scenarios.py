"""Which policy, on which scenario: common to `rllib-mec compare` and `rllib-mec render`."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rllib_mec.envs.mdp import MDP
from rllib_mec.errors import MecError, unknown
from rllib_mec.experiments.documents import read_settings
from rllib_mec.network.scenario import Scenario

if TYPE_CHECKING:
    from rllib_mec.policies import Policy


OF_THE_METHOD = ("remote_feature_share",)
"""Fields of a scenario that say how an algorithm works (AgileNN's split), not where it does."""


def add_scenario_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``--scenario``, ``--seed`` and ``--num-tasks``."""
    add = parser.add_argument
    add(
        "--scenario",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="fields of the scenario, e.g. num_devices=4 profile=si (default: the checkpoint's, or "
        "else Table III)",
    )
    add("--seed", type=int, default=0, metavar="S", help="seed of the episodes (default 0)")
    add("--num-tasks", type=int, metavar="X", help="tasks of each device (default: the mean, 50)")


def settings_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What ``--scenario`` sets; whether the values fit is for the scenario to say.

    Raises:
        MecError: Not ``key=value``, or an unknown field.
    """
    settings = read_settings("--scenario", arguments.scenario)
    fields = [field.name for field in dataclasses.fields(Scenario)]
    for key in settings:
        if key not in fields:
            raise unknown("scenario field", key, fields)
    return settings


def check_counts(arguments: argparse.Namespace, names: Sequence[str]) -> None:
    """Check arguments that count something, or are not given.

    Raises:
        MecError: One of them is below 1, or the seed below 0.
    """
    for name in names:
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise MecError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    if arguments.seed < 0:
        raise MecError(f"--seed must not be negative, got {arguments.seed}")


def load_trained(path: str) -> Policy:
    """The policy of a checkpoint, with the user's own classes imported from the working folder.

    Raises:
        MecError: There is no checkpoint, or it is of another environment.
    """
    from rllib_mec.experiments.quiet import quieten, set_environment
    from rllib_mec.experiments.restore import read_here
    from rllib_mec.policies import load_policy

    set_environment()
    quieten(0)
    return load_policy(read_here(path).path)


def mdp_for(policy: Policy, scenario: Scenario, path: str) -> MDP:
    """The MDP that a trained policy decides in, on a scenario.

    Args:
        policy: The policy.
        scenario: Where it is to decide.
        path: Its checkpoint, for the messages.

    Raises:
        MecError: The networks' shapes depend on a field in which the scenario differs from the one
            that the policy was trained on.
    """
    own = policy.mdp
    mdp = dataclasses.replace(own, scenario=scenario)
    for field, then in own.shape.items():
        now = mdp.shape[field]
        if then != now:
            raise MecError(
                f"the checkpoint {path} was trained with {field}={then!r}, "
                f"but the scenario has {field}={now!r}"
            )
    before, after = own.scenario.to_dict(), mdp.scenario.to_dict()
    changed = [f"{k}={v!r} (here {after[k]!r})" for k, v in before.items() if after[k] != v]
    if changed:
        note(f"the checkpoint {path} was trained with {', '.join(changed)}")
    return mdp


def note(message: str) -> None:
    """Print a one-line remark on stderr, so that stdout stays clean for results."""
    print(f"rllib-mec: note: {message}", file=sys.stderr, flush=True)

"""Which policy, on which scenario: common to `compare`, `evaluate` and `render`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import click
from pydantic import Field

from rllib_mec.cli.command import COUNT, NATURAL, option
from rllib_mec.envs.mdp import MDP
from rllib_mec.envs.task_window import TaskWindowMDP
from rllib_mec.errors import MecError
from rllib_mec.experiments.documents import read_settings
from rllib_mec.experiments.messages import note
from rllib_mec.experiments.restore import check_shape, read_here
from rllib_mec.network.checks import Metres, Tasks, checked
from rllib_mec.network.scenario import Scenario
from rllib_mec.registry import ENVIRONMENTS

if TYPE_CHECKING:
    from rllib_mec.policies import Policy


OF_THE_METHOD = ("remote_feature_share",)
"""Fields of a scenario that say how an algorithm works (AgileNN's split), not where it does."""


class PerDevice(click.ParamType):
    """A number for all devices, or one for each, such as ``80,50,20``.

    Args:
        one: What a number for all must be, for pydantic.
        each: What each of several must be.
        name: What ``--help`` shows for it.
    """

    def __init__(self, one: Any, each: Any, name: str):
        """Keep them."""
        self.one, self.each, self.name = one, each, name

    def convert(self, value: Any, param: click.Parameter | None, ctx: Any) -> Any:
        """The number, or a tuple of them; see the base class."""
        flag = param.opts[-1] if param else self.name
        words = str(value).split(",")
        if len(words) == 1:
            return checked(flag, value, self.one, texts=True)
        return tuple(checked(flag, word.strip(), self.each, texts=True) for word in words)


num_tasks_option = option(
    "--num-tasks",
    type=PerDevice(Annotated[Tasks, Field(ge=1)], Tasks, "N[,N...]"),
    help="tasks of every device, or of each (default: the mean, 50)",
)


def placement_options(function: Any) -> Any:
    """Give a command ``--distance`` and ``--draw``.

    With its ``--num-tasks`` they reach it as ``placement``: keywords of
    :func:`rllib_mec.evaluation.evaluate`.

    Args:
        function: The command's function.
    """

    @functools.wraps(function)
    def with_placement(*args: Any, num_tasks: Any, distance: Any, draw: bool, **flags: Any) -> int:
        if draw and not (num_tasks is None and distance is None):
            raise MecError(
                "--draw draws queues and distances: give it without --num-tasks and --distance"
            )
        placement = {"num_tasks": num_tasks, "distance_m": distance, "draw": draw}
        return function(*args, placement=placement, **flags)

    draw = option("--draw", is_flag=True, help="draw queues and distances as in training")
    distance = option(
        "--distance",
        type=PerDevice(Metres, Metres, "X[,X...]"),
        help="metres of every device to the base station, or of each (default: 50 on the paper's "
        "range, else the range's mean; or wherever devices move, where they do)",
    )
    return distance(draw(with_placement))


threads_option = option(
    "--threads", "num_threads", type=COUNT, default=1, help="that the episodes are spread over"
)

search_option = option(
    "--search", type=COUNT, metavar="K",
    help="try K other decisions in the simulator for each one of the policy's",
)  # fmt: skip


def check_placement(placement: Mapping[str, Any], num_devices: int) -> None:
    """Check, before anything long, that what is given per device is given for each.

    Args:
        placement: What :func:`placement_options` gave.
        num_devices: N.

    Raises:
        MecError: It is of another number of devices.
    """
    for flag, name in (("--num-tasks", "num_tasks"), ("--distance", "distance_m")):
        values = placement[name]
        if isinstance(values, tuple) and len(values) != num_devices:
            raise MecError(
                f"{flag} takes one number, or {num_devices} (one per device), "
                f"got {','.join(map(str, values))}"
            )


def scenario_options(function: Any) -> Any:
    """Give a command ``--env``, ``--scenario``, ``--seed`` and ``--num-tasks``.

    Args:
        function: The command's function.
    """
    for add in (
        num_tasks_option,
        option("--seed", type=NATURAL, default=0, help="seed of the episodes"),
        option(
            "--scenario",
            multiple=True,
            metavar="KEY=VALUE...",
            callback=lambda ctx, flag, pairs: read_settings("--scenario", pairs),
            help="arguments of the environment, e.g. num_devices=4 profile=si (default: the "
            "checkpoint's, or else Table III)",
        ),
        option(
            "--env",
            metavar="ENV",
            help=f"{', '.join(ENVIRONMENTS.known())}, or a class path (default: the checkpoint's, "
            "or else the first)",
        ),
    ):
        function = add(function)
    return function


def make_mdp(env: str | None, settings: Mapping[str, Any]) -> MDP:
    """The MDP of what the command line says, where no checkpoint says it.

    Args:
        env: What ``--env`` gave; default: task windows.
        settings: What ``--scenario`` gave.

    Raises:
        MecError: There is no such environment, or it does not take the settings.
    """
    return ENVIRONMENTS.load(env or TaskWindowMDP.env_id).mdp_class.from_dict(settings)


def tell_remarks(mdp: MDP) -> None:
    """Print what a user should know of an MDP's settings before it is run.

    Args:
        mdp: The MDP.
    """
    for remark in mdp.remarks:
        note(remark)


def check_env(env: str | None, policy: Policy, path: str) -> None:
    """Check that ``--env``, if it is given, is what a checkpoint was trained on.

    Args:
        env: What it gave.
        policy: The checkpoint's.
        path: The checkpoint, for the message.

    Raises:
        MecError: It is another one, whose laws and settings the checkpoint does not have.
    """
    if env is not None and ENVIRONMENTS.load(env).mdp_class is not type(policy.mdp):
        raise MecError(
            f"the checkpoint {path} was trained on {policy.mdp.env_id!r}, not on {env!r}: "
            "leave out --env"
        )


def load_trained(path: str) -> Policy:
    """The policy of a checkpoint, with the user's own classes imported from the working folder.

    Args:
        path: A checkpoint, or the folder of a trial or an experiment.

    Raises:
        MecError: There is no checkpoint, or it is of another environment.
    """
    from rllib_mec.experiments.quiet import quieten, set_environment
    from rllib_mec.policies import load_policy

    set_environment()
    quieten(0)
    return load_policy(read_here(path).path)


def mdp_for(policy: Policy, scenario: Scenario, own: Mapping[str, Any], path: str) -> MDP:
    """The MDP that a trained policy is to decide in, on a scenario.

    Args:
        policy: The policy.
        scenario: Where it is to decide.
        own: Fields of MDPs' own to be changed; those that its MDP does not have do not matter.
        path: Its checkpoint, for the messages.

    Raises:
        MecError: The networks' shapes depend on a field in which the scenario differs from the one
            that the policy was trained on, and it does not carry over.
    """
    trained = policy.mdp
    changes = {name: value for name, value in own.items() if name in trained.settings}
    mdp = dataclasses.replace(trained, scenario=scenario, **changes)
    if not policy.carries_over:
        check_shape(path, trained, mdp, policy.hint)
    tell_changes(policy, mdp, path)
    return mdp


def tell_changes(policy: Policy, mdp: MDP, path: str) -> None:
    """Print in what an MDP differs from those that a policy was trained on.

    Args:
        policy: The policy.
        mdp: Where it is to decide.
        path: Its checkpoint, for the message.
    """
    from rllib_mec.algorithms.randomize import is_among

    drawn, wanted = policy.randomized, {**mdp.scenario.to_dict(), **mdp.settings}
    known = {k: wanted[k] for k in drawn if k in wanted and is_among(wanted[k], drawn[k])}
    # What follows from a drawn field, as the latency from the DNN, is as it was in training.
    leads = {k: v for k, v in known.items() if k in ("profile", "dnn", "path_loss")}
    trained = policy.mdp.scenario.replace(**leads)
    before = {**trained.to_dict(), **policy.mdp.settings}
    members = trained.members, mdp.scenario.members
    same = {name for name in members[0] if members[0][name] == members[1][name]}
    changed = [
        f"{k}={drawn.get(k, v)!r} (here {wanted[k]!r})"
        for k, v in before.items()
        if k not in same and k not in known and (k in drawn or wanted[k] != v)
    ]
    if changed:
        note(f"the checkpoint {path} was trained with {', '.join(changed)}")

"""Compare policies by the paper's protocol, and to the planner's near-optimal one.

rllib-mec compare
rllib-mec compare --policies local-only,planner --scenario num_devices=4 profile=si
rllib-mec compare --policies full-offload,planner --num-tasks 20 --distance 80
rllib-mec compare --policies local-only,planner --env my_package.my_module:MyMDP
rllib-mec compare --checkpoint ~/ray_results/emh-ppo --policies shortest-queue --search 32
rllib-mec compare --checkpoint ~/ray_results/emh-ppo ~/ray_results/mahppo --json table.json

Of a folder of results the newest checkpoint of the best trial is taken. All policies face the same
channels. "Eq. (4)" is the total latency and β/N times the total energy of an episode. "/planner"
says how many times the planner's reward, Eq. (4), latency or energy a policy has, "/bound" the same
of the bound where there is no planner: `bound` is what no policy gets below, however it decides.
Partition points have the index of `rllib-mec partition`; those with the most tasks are named.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_mec.cli import scenarios
from rllib_mec.cli.command import COUNT, OK, command, option
from rllib_mec.envs.task_window import TaskWindowMDP
from rllib_mec.errors import MecError
from rllib_mec.experiments.messages import note, progress_line
from rllib_mec.network.scenario import Scenario
from rllib_mec.registry import POLICIES, make_policy
from rllib_mec.viz.plotting import check_target

if TYPE_CHECKING:
    from rllib_mec.envs.mdp import MDP
    from rllib_mec.evaluation import Bound, Evaluation
    from rllib_mec.policies import Policy


@command(help=__doc__)
@option(
    "--policies", metavar="NAME,...",
    help=f"those without training (default: all of {','.join(POLICIES)} that can decide there)",
)  # fmt: skip
@option(
    "--checkpoint", "checkpoints", multiple=True, metavar="PATH...",
    help="of a trained policy; or the folder of a trial or experiment",
)  # fmt: skip
@scenarios.scenario_options
@scenarios.placement_options
@option("--episodes", type=COUNT, default=200)
@scenarios.threads_option
@scenarios.search_option
@option("--json", "json_file", metavar="FILE", help="write the numbers there; - prints them")
def compare(
    policies: str | None,
    checkpoints: tuple[str, ...],
    env: str | None,
    scenario: dict[str, Any],
    seed: int,
    placement: dict[str, Any],
    episodes: int,
    num_threads: int,
    search: int | None,
    json_file: str | None,
) -> int:
    """Print the table."""
    names = list(POLICIES) if policies is None else _policy_names(policies)
    if not names and not checkpoints:
        raise MecError("nothing to compare: give --policies or --checkpoint")
    if json_file and json_file != "-":
        check_target(json_file, (".json",))
    trained = [scenarios.load_trained(path) for path in checkpoints]
    for policy, path in zip(trained, checkpoints, strict=True):
        scenarios.check_env(env, policy, path)
    mdps = [policy.mdp for policy in trained] or [scenarios.make_mdp(env, scenario)]
    own, of_scenario = mdps[0].split(scenario)
    common = _common_scenario(mdps).replace(**of_scenario)
    named = [] if policies is None else [name for name in names if name != "planner"]
    if search and not (trained or named):
        raise MecError("--search betters policies of --checkpoint, or those that --policies names")
    # Checked before the planner searches.
    scenarios.check_placement(placement, common.num_devices)
    places = [
        scenarios.mdp_for(
            policy, common.replace(**{**_own_method(policy), **of_scenario}), own, path
        )
        for policy, path in zip(trained, checkpoints, strict=True)
    ]
    for policy, name in zip(trained, _distinct_names(trained), strict=True):
        policy.name = name
    from rllib_mec.evaluation import comparison_table, evaluate
    from rllib_mec.policies import Lookahead

    where = dataclasses.replace(mdps[0], scenario=common, **own)
    scenarios.tell_remarks(where)
    untrained = _make_untrained(names, where, common, may_leave_out=policies is None)
    everyone = [(policy, policy.mdp) for policy in untrained]
    everyone += zip(trained, places, strict=True)
    if search:
        everyone += [
            (Lookahead(policy, search, mdp=place, seed=seed), place)
            for policy, place in everyone
            if policy in trained or (policies is not None and policy.name != "planner")
        ]
    evaluations = [
        evaluate(policy, place, episodes=episodes, seed=seed, num_threads=num_threads, **placement)
        for policy, place in everyone
    ]
    bound = _bound(where, placement)
    if json_file:
        _write_json(evaluations, bound, json_file)
    if json_file != "-":
        print(comparison_table(evaluations, bound=bound))
        for policy, path in zip(trained, checkpoints, strict=True):
            print(f"{policy.name}: {path}")
    return OK


def _policy_names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        POLICIES.load(name)
    return list(dict.fromkeys(names))


def _common_scenario(mdps: Sequence[MDP]) -> Scenario:
    """The first MDP's scenario, without what belongs to a method.

    In time slots W_max is 1, so it is taken from the first that has task windows.
    """
    windows = (mdp.scenario.max_window for mdp in mdps if mdp.has_windows)
    usual = {name: getattr(Scenario, name) for name in scenarios.OF_THE_METHOD}
    return mdps[0].scenario.replace(max_window=next(windows, Scenario.max_window), **usual)


def _make_untrained(
    names: Sequence[str], mdp: MDP, common: Scenario, *, may_leave_out: bool
) -> list[Policy]:
    """Policies without training.

    Args:
        names: Theirs.
        mdp: Where they are to decide; the planner does in task windows if it cannot simulate it.
        common: The scenario of those.
        may_leave_out: Whether to leave out those that cannot decide there, and say so.

    Raises:
        MecError: One cannot decide there.
    """
    made = []
    for name in names:
        windows = name == "planner" and not (mdp.can_simulate or mdp.tasks_arrive)
        try:
            made.append(make_policy(name, TaskWindowMDP(common) if windows else mdp))
        except MecError as error:
            if not may_leave_out:
                raise
            note(f"{name} is left out: {error}")
            continue
        made[-1].report = progress_line()
        if windows:
            note(
                f"the planner cannot simulate a {mdp.step_name}: it decides {made[-1].mdp} "
                "instead, with another reward"
            )
    return made


def _own_method(policy: Policy) -> dict[str, Any]:
    return {name: getattr(policy.scenario, name) for name in scenarios.OF_THE_METHOD}


def _distinct_names(trained: Sequence[Policy]) -> list[str]:
    """The policies' names, with the length of their time slots, and numbers where still equal."""
    names = [
        policy.name if policy.mdp.has_windows else f"{policy.name}, {policy.mdp}"
        for policy in trained
    ]
    return [
        f"{name} [{names[:i].count(name) + 1}]" if names.count(name) > 1 else name
        for i, name in enumerate(names)
    ]


def _bound(mdp: MDP, placement: dict[str, Any]) -> Bound | None:
    """What no policy gets below; where there is none, a note says why."""
    from rllib_mec.evaluation import lower_bound

    try:
        return lower_bound(mdp, **placement)
    except MecError as error:
        note(str(error))
        return None


def _write_json(evaluations: Sequence[Evaluation], bound: Bound | None, path: str) -> None:
    """Write all numbers, with the gaps to planner and bound if they are there; ``-`` is stdout."""
    from rllib_mec.evaluation import optimality_gap

    planner = next((e for e in evaluations if e.policy == "planner"), None)
    found = [evaluation.to_dict() for evaluation in evaluations]
    if planner is not None:
        for entry, evaluation in zip(found, evaluations, strict=True):
            entry["of_planner"] = optimality_gap(evaluation, planner)
    if bound is not None:
        for entry, evaluation in zip(found, evaluations, strict=True):
            if gap := bound.gap(evaluation):
                entry["of_bound"] = gap
        found.append(bound.to_dict())
    text = json.dumps(found, indent=1)
    if path == "-":
        print(text)
    else:
        Path(path).write_text(f"{text}\n")
        print(f"wrote {path}", file=sys.stderr)

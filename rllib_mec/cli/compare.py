"""Compare policies by the paper's protocol, and to the planner's near-optimal one.

rllib-mec compare
rllib-mec compare --policies local-only,planner --scenario num_devices=4 profile=si
rllib-mec compare --policies full-offload,planner --num-tasks 20 --distance 80
rllib-mec compare --policies local-only,planner --env my_package.my_module:MyMDP
rllib-mec compare --checkpoint ~/ray_results/emh-ppo ~/ray_results/mahppo --json table.json

Of a folder of results the newest checkpoint of the best trial is taken. All policies face the same
channels. "Eq. (4)" is the total latency and β/N times the total energy of an episode. "/planner"
says how many times the planner's reward, Eq. (4), latency or energy a policy has. Partition points
have the index of `rllib-mec partition`; those with the most tasks are named.
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
from rllib_mec.experiments.messages import note
from rllib_mec.network.scenario import Scenario
from rllib_mec.registry import POLICIES, make_policy
from rllib_mec.viz.plotting import check_target

if TYPE_CHECKING:
    from rllib_mec.envs.mdp import MDP
    from rllib_mec.evaluation import Evaluation
    from rllib_mec.policies import Policy


@command(help=__doc__)
@option("--policies", metavar="NAME,...", help="those without training (default: all that can)")
@option(
    "--checkpoint", "checkpoints", multiple=True, metavar="PATH...",
    help="of a trained policy; or the folder of a trial or experiment",
)  # fmt: skip
@scenarios.scenario_options
@scenarios.placement_options
@option("--episodes", type=COUNT, default=200)
@option("--json", "json_file", metavar="FILE", help="write the numbers there; - prints them")
def compare(
    policies: str | None,
    checkpoints: tuple[str, ...],
    env: str | None,
    scenario: dict[str, Any],
    seed: int,
    placement: dict[str, Any],
    episodes: int,
    json_file: str | None,
) -> int:
    """Print the table."""
    names = _policy_names(",".join(POLICIES) if policies is None else policies)
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

    where = dataclasses.replace(mdps[0], scenario=common, **own)
    scenarios.tell_remarks(where)
    if policies is None and where.tasks_arrive:
        note(f"without the planner, which cannot plan what has not come, as in {where.env_id}")
        names = [name for name in names if name != "planner"]
    untrained = [_make_untrained(name, where, common) for name in names]
    places = [policy.mdp for policy in untrained] + places
    evaluations = [
        evaluate(policy, place, episodes=episodes, seed=seed, **placement)
        for policy, place in zip(untrained + trained, places, strict=True)
    ]
    if json_file:
        _write_json(evaluations, json_file)
    if json_file != "-":
        print(comparison_table(evaluations))
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


def _make_untrained(name: str, mdp: MDP, common: Scenario) -> Policy:
    """A policy without training; the planner in task windows where it cannot simulate the MDP."""
    if name == "planner" and not mdp.can_simulate and not mdp.tasks_arrive:
        windows = TaskWindowMDP(common)
        note(
            f"the planner cannot simulate a {mdp.step_name}: it decides {windows} instead, "
            "with another reward"
        )
        return make_policy(name, windows)
    return make_policy(name, mdp)


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


def _write_json(evaluations: Sequence[Evaluation], path: str) -> None:
    """Write all numbers, with the optimality gaps if the planner is there; ``-`` is stdout."""
    from rllib_mec.evaluation import optimality_gap

    planner = next((e for e in evaluations if e.policy == "planner"), None)
    found = [evaluation.to_dict() for evaluation in evaluations]
    if planner is not None:
        for entry, evaluation in zip(found, evaluations, strict=True):
            entry["of_planner"] = optimality_gap(evaluation, planner)
    text = json.dumps(found, indent=1)
    if path == "-":
        print(text)
    else:
        Path(path).write_text(f"{text}\n")
        print(f"wrote {path}", file=sys.stderr)

"""Compare policies by the paper's protocol, and to the planner's near-optimal one.

rllib-mec compare
rllib-mec compare --policies local-only,planner --scenario num_devices=4 profile=si
rllib-mec compare --policies full-offload,planner --num-tasks 20 --distance 80
rllib-mec compare --checkpoint ~/ray_results/emh-ppo ~/ray_results/mahppo --json table.json

Of a folder of results the newest checkpoint of the best trial is taken. All policies face the same
channels. "Eq. (4)" is the total latency and β/N times the total energy of an episode. "/planner"
says how many times the planner's reward, Eq. (4), latency or energy a policy has.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_mec.cli import scenarios
from rllib_mec.cli.command import COUNT, OK, command, option
from rllib_mec.errors import MecError, unknown
from rllib_mec.network.scenario import Scenario
from rllib_mec.registry import POLICIES, make_policy
from rllib_mec.viz.plotting import check_target

if TYPE_CHECKING:
    from rllib_mec.evaluation import Evaluation
    from rllib_mec.policies import Policy


@command(help=__doc__)
@option("--policies", default=",".join(POLICIES), metavar="NAME,...", help="those without training")
@option(
    "--checkpoint", "checkpoints", multiple=True, metavar="PATH...",
    help="of a trained policy; or the folder of a trial or experiment",
)  # fmt: skip
@scenarios.scenario_options
@scenarios.placement_options
@option("--episodes", type=COUNT, default=200)
@option("--json", "json_file", metavar="FILE", help="write the numbers there; - prints them")
def compare(
    policies: str,
    checkpoints: tuple[str, ...],
    scenario: dict[str, Any],
    seed: int,
    placement: dict[str, Any],
    episodes: int,
    json_file: str | None,
) -> int:
    """Print the table."""
    names = _policy_names(policies)
    if not names and not checkpoints:
        raise MecError("nothing to compare: give --policies or --checkpoint")
    if json_file and json_file != "-":
        check_target(json_file, (".json",))
    trained = [scenarios.load_trained(path) for path in checkpoints]
    where = _common_scenario(trained).replace(**scenario)
    # Checked before the planner searches.
    scenarios.check_placement(placement, where.num_devices)
    places = [
        scenarios.mdp_for(policy, where.replace(**{**_own_method(policy), **scenario}), path)
        for policy, path in zip(trained, checkpoints, strict=True)
    ]
    for policy, name in zip(trained, _distinct_names(trained), strict=True):
        policy.name = name
    from rllib_mec.evaluation import comparison_table, evaluate

    untrained = [make_policy(name, where) for name in names]
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
        if name not in POLICIES:
            raise unknown("policy", name, POLICIES)
    return list(dict.fromkeys(names))


def _common_scenario(trained: Sequence[Policy]) -> Scenario:
    """The first checkpoint's scenario; Table III without one.

    In time slots W_max is 1, so it is taken from the first that decides task windows.
    """
    if not trained:
        return Scenario()
    windows = (p.scenario.max_window for p in trained if p.mdp.waits_for_all)
    usual = {name: getattr(Scenario, name) for name in scenarios.OF_THE_METHOD}
    return trained[0].scenario.replace(max_window=next(windows, Scenario.max_window), **usual)


def _own_method(policy: Policy) -> dict[str, Any]:
    return {name: getattr(policy.scenario, name) for name in scenarios.OF_THE_METHOD}


def _distinct_names(trained: Sequence[Policy]) -> list[str]:
    """The policies' names, with the length of their time slots, and numbers where still equal."""
    names = [
        policy.name if policy.mdp.waits_for_all else f"{policy.name}, {policy.mdp}"
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

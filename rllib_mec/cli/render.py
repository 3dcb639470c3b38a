"""Show one episode as a Gantt chart: what every device does when, and who waits for whom.

rllib-mec render planner                                     # as text
rllib-mec render ~/ray_results/emh-ppo --out episode.gif     # an animation
rllib-mec render full-offload --scenario num_devices=4 --out episode.png

The episode is that of `rllib-mec compare` with the same seed: 50 tasks a device at 50 m.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rllib_mec.cli import scenarios
from rllib_mec.envs.episodes import EVALUATION_DISTANCE_M
from rllib_mec.envs.recording import record_episode
from rllib_mec.errors import MecError, unknown
from rllib_mec.network.scenario import Scenario
from rllib_mec.registry import POLICIES, make_policy
from rllib_mec.viz import episode_chart, episode_film, plotting

if TYPE_CHECKING:
    from rllib_mec.envs.mdp import MDP
    from rllib_mec.policies import Policy


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add = parser.add_argument
    add(
        "policy", metavar="CHECKPOINT", help=f"of a trained policy; or one of {', '.join(POLICIES)}"
    )
    add("--out", metavar="FILE", help=".gif, .png, .pdf, .svg, .txt; default: text on stdout")
    scenarios.add_scenario_arguments(parser)
    add("--fps", type=float, default=10.0, help="frames a second of an animation (default 10)")
    add("--max-windows", type=int, metavar="K", help="stop after so many windows or slots")


def run(arguments: argparse.Namespace) -> int:
    """Run the episode and draw it.

    Returns:
        0.

    Raises:
        MecError: Something wrong with an argument.
    """
    scenarios.check_counts(arguments, ("num_tasks", "max_windows"))
    episode_film.check_fps(arguments.fps)
    target = _target(arguments.out)
    policy, mdp = _policy(arguments)
    scenario = mdp.scenario
    num_tasks = arguments.num_tasks or round(scenario.mean_tasks)
    recording = record_episode(
        policy.decide,
        mdp,
        seed=arguments.seed,
        num_tasks=num_tasks,
        distance_m=EVALUATION_DISTANCE_M,
        max_steps=arguments.max_windows,
    )
    title = (
        f"{policy.name}: {scenario.dnn}, N={scenario.num_devices}, M={scenario.num_servers}, "
        f"C={scenario.num_channels}, profile {scenario.profile!r}, {mdp}, seed {arguments.seed}"
    )
    if target is None:
        print(f"{title}\n\n{episode_chart.episode_text(recording)}")
        return 0
    if target.suffix.lower() == ".gif":
        episode_film.write_animation(recording, target, title, arguments.fps)
    elif target.suffix.lower() == ".txt":
        target.write_text(f"{title}\n\n{episode_chart.episode_text(recording)}\n", encoding="utf-8")
    else:
        plotting.save(episode_chart.episode_figure(recording, title), target)
    print(episode_chart.summary(recording))
    print(f"wrote {target}", file=sys.stderr)
    return 0


def _target(out: str | None) -> Path | None:
    if out is None:
        return None
    target = plotting.check_target(out, (".gif", *plotting.SUFFIXES, ".txt"))
    if target.suffix.lower() != ".txt":
        plotting.check_installed()
    return target


def _policy(arguments: argparse.Namespace) -> tuple[Policy, MDP]:
    """The policy that the command line names, and what to run.

    Raises:
        MecError: There is neither such a policy nor such a checkpoint, or it does not fit.
    """
    name = arguments.policy
    changes = scenarios.settings_of(arguments)
    if name in POLICIES:
        policy = make_policy(name, Scenario(**changes))
        return policy, policy.mdp
    if not Path(name).expanduser().exists():
        hint = str(unknown("policy", name, POLICIES))
        raise MecError(f"{hint}, or the path of a checkpoint")
    policy = scenarios.load_trained(name)
    return policy, scenarios.mdp_for(policy, policy.scenario.replace(**changes), name)

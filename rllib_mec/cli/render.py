"""Show one episode as a Gantt chart: what every device does when, and who waits for whom.

rllib-mec render planner                                     # as text
rllib-mec render ~/ray_results/emh-ppo --out episode.gif     # an animation
rllib-mec render full-offload --scenario num_devices=4 --out episode.png
rllib-mec render local-only --env mec_time_slot_v0 --scenario slot_ms=20

The episode is that of `rllib-mec compare` with the same seed: 50 tasks a device at 50 m,
or where they move.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rllib_mec.cli import scenarios
from rllib_mec.cli.command import COUNT, OK, command, option
from rllib_mec.envs.episodes import evaluation_distance_m
from rllib_mec.envs.recording import record_episode
from rllib_mec.errors import MecError, unknown
from rllib_mec.registry import POLICIES, make_policy
from rllib_mec.remote import is_url
from rllib_mec.viz import episode_chart, episode_film, plotting

if TYPE_CHECKING:
    from rllib_mec.envs.mdp import MDP
    from rllib_mec.policies import Policy


@command(help=f"{__doc__}\nCHECKPOINT is a trained policy's, or one of {', '.join(POLICIES)}.")
@click.argument("policy_name", metavar="CHECKPOINT")
@option("--out", metavar="FILE", help=".gif, .png, .pdf, .svg, .txt; default: text on stdout")
@scenarios.scenario_options
@option("--fps", type=float, default=10.0, help="frames a second of an animation")
@option("--max-windows", type=COUNT, help="stop after so many windows or slots")
def render(
    policy_name: str,
    out: str | None,
    env: str | None,
    scenario: dict[str, Any],
    seed: int,
    num_tasks: int | None,
    fps: float,
    max_windows: int | None,
) -> int:
    """Run the episode and draw it."""
    episode_film.check_fps(fps)
    target = _target(out)
    policy, mdp = _policy(policy_name, env, scenario)
    scenarios.tell_remarks(mdp)
    where = mdp.scenario
    recording = record_episode(
        policy.decide,
        mdp,
        seed=seed,
        num_tasks=num_tasks or mdp.usual_tasks,
        distance_m=evaluation_distance_m(where),
        max_steps=max_windows,
    )
    title = f"{policy.name}: {mdp.title}, seed {seed}"
    text = f"{title}\n\n{episode_chart.episode_text(recording)}"
    if target is None:
        print(text)
        return OK
    if target.suffix.lower() == ".gif":
        episode_film.write_animation(recording, target, title, fps)
    elif target.suffix.lower() == ".txt":
        target.write_text(f"{text}\n", encoding="utf-8")
    else:
        plotting.save(episode_chart.episode_figure(recording, title), target)
    print(episode_chart.summary(recording))
    print(f"wrote {target}", file=sys.stderr)
    return OK


def _target(out: str | None) -> Path | None:
    if out is None:
        return None
    target = plotting.check_target(out, (".gif", *plotting.SUFFIXES, ".txt"))
    if target.suffix.lower() != ".txt":
        plotting.check_installed()
    return target


def _policy(name: str, env: str | None, settings: dict[str, Any]) -> tuple[Policy, MDP]:
    """The policy that the command line names, and what to run."""
    if name in POLICIES or (":" in name and not is_url(name) and not Path(name).exists()):
        policy = make_policy(name, scenarios.make_mdp(env, settings))
        return policy, policy.mdp
    if not is_url(name) and not Path(name).expanduser().exists():
        raise MecError(f"{unknown('policy', name, POLICIES)}, or the path of a checkpoint")
    policy = scenarios.load_trained(name)
    scenarios.check_env(env, policy, name)
    own, of_scenario = policy.mdp.split(settings)
    mdp = scenarios.mdp_for(policy, policy.scenario.replace(**of_scenario), own, name)
    return policy.on(mdp), mdp

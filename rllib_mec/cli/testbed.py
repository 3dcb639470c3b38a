"""Emulate the testbed on this machine: a server and slowed-down devices as real processes.

rllib-mec testbed --devices 3 --tasks 100 --slowdown 5 --bandwidth-mbps 50
rllib-mec testbed --model resnet50 --codec int8 --devices 2 --json run.json
rllib-mec testbed --checkpoint ~/ray_results/emh-ppo          # the policy decides task windows

It runs the same tasks local only, with full offload, and with the points (or the policy) decided,
and prints what the simulator predicted for each, from what one device alone measured.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_mec.cli.command import FAILED, NEW_FILE, OK, command, ended_in_order, option
from rllib_mec.errors import MecError
from rllib_mec.experiments import quiet
from rllib_mec.experiments.messages import error, note

if TYPE_CHECKING:
    from rllib_mec.testbed.emulation import Emulation
    from rllib_mec.testbed.emulation_run import Run


@command(help=__doc__)
@option("--devices", type=int, help="how many (default 3, or the checkpoint's)")
@option("--tasks", type=int, default=100, help="of each device")
@option("--slowdown", type=float, default=5.0, help="of a device's CPU")
@option("--bandwidth-mbps", type=float, default=50.0, help="of a device's link")
@option("--model", help="a torchvision model (default mobilenet_v2, or the checkpoint's)")
@option("--codec", help="float32, float16, int8, int4 (default float32, or the checkpoint's)")
@option("--checkpoint", metavar="DIR", help="a trained policy that decides")
@option("--link", default="auto", help="auto, netns (network namespaces and tc) or bucket")
@option("--seed", type=int, default=0, help="of weights, tasks and starts")
@option("--csv", "csv_file", type=NEW_FILE, help="write a row for each task")
@option("--json", "json_file", type=NEW_FILE, help="write what the table shows")
def testbed(
    devices: int | None,
    model: str | None,
    codec: str | None,
    checkpoint: str | None,
    csv_file: str | None,
    json_file: str | None,
    **options: Any,
) -> int:
    """Emulate, and print the table; 1 if a task had a wrong answer."""
    from rllib_mec.testbed.emulation import Emulation
    from rllib_mec.testbed.emulation_run import EmulationOptions
    from rllib_mec.testbed.options import ServerOptions
    from rllib_mec.testbed.task_files import TaskFiles

    given = {"model": model, "devices": devices, "codec": codec}
    if checkpoint:
        quiet.set_environment()
        quiet.quieten(0)
        server = ServerOptions(model=model, checkpoint=checkpoint, devices=devices).resolved()
        if codec not in (None, server.codec):
            raise MecError(f"the checkpoint was trained with {server.codec}: leave --codec away")
        given = {"model": server.model, "devices": server.devices, "codec": server.codec}
    given = {name: value for name, value in given.items() if value is not None}
    checked = EmulationOptions(**given, checkpoint=checkpoint, **options)
    with ended_in_order(), TaskFiles(csv_file) as files, Emulation(checked, note) as emulation:
        runs = []
        for each in emulation.compare():
            runs.append(each)
            for record in each.records:
                files.add(record)
        text = describe(emulation, runs)
    print(text)
    if json_file:
        values = {"text": text.splitlines(), "runs": [each.to_dict() for each in runs]}
        Path(json_file).write_text(json.dumps(values, indent=1) + "\n")
    wrong = sum(each.wrong for each in runs)
    if wrong:
        error(f"{wrong} tasks had a wrong answer")
    return FAILED if wrong else OK


def describe(emulation: Emulation, runs: list[Run]) -> str:
    """What was emulated, and a table of measurements with the predictions beside.

    Args:
        emulation: What ran, with its options and calibration.
        runs: What was measured, each with its prediction.
    """
    options, calibration = emulation.options, emulation.calibration
    lines = [
        f"{options.model}: {options.devices} devices, {options.tasks} tasks each,"
        f" {options.slowdown:g}x slower than a core of this machine (by sleeping, from the least"
        " CPU time of one device alone)",
        f"links: {options.bandwidth_mbps:g} Mbit/s by {emulation.link}",
        f"one device alone: the whole DNN takes {calibration.device.total_ms:.1f} ms,"
        f" {calibration.server.total_ms:.1f} ms on the server; a request adds"
        f" {calibration.request_ms:.1f} ms, goodput {calibration.goodput_mbps:.1f} Mbit/s in"
        f" {calibration.codec}",
        "",
        f"{'':<14}{'mean, ms':>9}{'p50':>8}{'p95':>8}{'tasks/s':>9}{'J/task':>9}"
        f"{'waiting':>9}{'local':>7}{'vs local':>10}{'simulator':>11}{'error':>8}",
    ]
    for each in runs:
        own = each.measured
        saved = own.mean_ms / runs[0].measured.mean_ms - 1.0
        lines.append(
            f"{each.policy:<14}{own.mean_ms:>9.1f}{own.p50_ms:>8.1f}{own.p95_ms:>8.1f}"
            f"{own.throughput_per_s:>9.1f}{own.energy_j:>9.4f}{own.waiting_ms:>9.1f}"
            f"{own.local_share:>7.0%}{saved:>+10.1%}{each.predicted.mean_ms:>11.1f}"
            f"{each.error:>+8.1%}"
        )
    for each in runs:
        if each.measured.fallback_share:
            lines.append(f"{each.policy}: {each.measured.fallback_share:.0%} fell back to local")
    if runs[-1].points:
        points = ", ".join(f"md_{n}: {name}" for n, name in enumerate(emulation.cuts(runs[-1])))
        lines += ["", f"{runs[-1].policy}: cut after {points}"]
    count = sum(each.measured.tasks for each in runs)
    lines += ["", f"right answers: {count - sum(each.wrong for each in runs)} of {count}"]
    return "\n".join(lines)

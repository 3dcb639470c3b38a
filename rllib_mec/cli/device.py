"""Run a device: work through tasks, split with a MEC server; needs neither Ray nor an environment.

rllib-mec device --server 192.168.0.10:8600 --tasks 100
rllib-mec device --server 127.0.0.1:8600 --decide 2 --codec int8 --slowdown 5 --bandwidth-mbps 50
rllib-mec device --server 127.0.0.1:8600 --verify --csv tasks.csv
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from rllib_mec.cli.dnn_arguments import add_weights
from rllib_mec.dnn.codecs import CODECS
from rllib_mec.errors import MecError, unknown

if TYPE_CHECKING:
    from rllib_mec.testbed.client import Hello
    from rllib_mec.testbed.decisions import Decider
    from rllib_mec.testbed.records import TaskRecord
    from rllib_mec.testbed.split_model import SplitModel

INTERRUPTED = 130
_REASONS_SHOWN = 3
_DECISIONS = ("auto", "server", "local", "offload")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add = parser.add_argument
    add("--server", required=True, metavar="HOST:PORT[,...]", help="MEC servers; the first decides")
    add("--model", help="the DNN that the server is expected to have (default: whichever)")
    add_weights(parser)
    add("--name", default="md_0", help="name of this device (default md_0)")
    add("--tasks", type=int, default=100, help="how many (default 100)")
    add("--task-seed", type=int, default=0, help="seed of the tasks' inputs (default 0)")
    add(
        "--decide",
        default="auto",
        metavar="|".join((*_DECISIONS, "POINT")),
        help="who decides: the server's scheduler, or always the same (default: auto, the"
        " scheduler where there is one, else offload)",
    )
    add("--codec", help="float32, float16, int8, int4 (default: the server's)")
    add("--distance-m", type=float, default=50.0, help="to the base station (default 50)")
    add("--power-w", type=float, default=0.02, help="where none is decided (default 0.02)")
    add("--slowdown", type=float, default=1.0, help="make compute take this many times as long")
    add("--bandwidth-mbps", type=float, help="shape the uplink to this rate")
    add("--timeout-ms", type=float, default=1000.0, help="for a request, sending not counted")
    add("--wait-s", type=float, default=0.0, help="how long to wait for the server to come up")
    add("--threads", type=int, default=1, help="torch threads; the server alike (default 1)")
    add("--verify", action="store_true", help="compare every result with the whole DNN's")
    add("--csv", metavar="FILE", help="write a row for each task")
    add("--json", metavar="FILE", help="write summary and tasks")


def run(arguments: argparse.Namespace) -> int:
    """Work through the tasks and print a summary.

    Returns:
        0, or 130 if it was interrupted; what was done by then is reported all the same.

    Raises:
        MecError: Something wrong with an argument, or a server that is out of reach or has another
            DNN or other weights.
    """
    _check(arguments)
    import torch

    from rllib_mec.testbed.device import Device, load_from
    from rllib_mec.testbed.link import Link
    from rllib_mec.testbed.split_model import task_input

    torch.set_num_threads(arguments.threads)
    link = Link(arguments.bandwidth_mbps)
    servers = arguments.server.split(",")
    timeout_s = arguments.timeout_ms / 1e3
    model, hello = load_from(
        servers[0],
        model=arguments.model,
        seed=arguments.seed,
        weights=arguments.weights,
        timeout_s=timeout_s,
        wait_s=arguments.wait_s,
    )
    device = Device(
        model,
        servers,
        _decider(arguments, model, hello),
        name=arguments.name,
        link=link,
        slowdown=arguments.slowdown,
        timeout_s=timeout_s,
        verify=arguments.verify,
        note=_note,
    )
    inputs = (task_input(model.input_shape, arguments.task_seed, i) for i in range(arguments.tasks))
    done: list[TaskRecord] = []
    try:
        with device:
            records = device.run(inputs, arguments.tasks, lambda record, _: done.append(record))
    except KeyboardInterrupt:
        _report(arguments, done)
        return INTERRUPTED
    _report(arguments, records)
    return 0


def _report(arguments: argparse.Namespace, records: list[TaskRecord]) -> None:
    """Print the summary and write the files."""
    from rllib_mec.testbed.records import Summary, write_csv, write_json

    if not records:
        return
    print(f"{arguments.name}: {Summary.of(records)}")
    reasons = Counter(record.reason for record in records if record.fell_back)
    for reason, count in reasons.most_common(_REASONS_SHOWN):
        print(f"  {count} fell back: {reason}")
    errors = [record.max_abs_error for record in records if record.max_abs_error is not None]
    if errors:
        same = sum(error == 0.0 for error in errors)
        worst = max(errors)
        print(f"{same} of {len(errors)} results equal the whole DNN's, largest error {worst:.3g}")
    if arguments.csv:
        write_csv(records, arguments.csv)
    if arguments.json:
        write_json(records, arguments.json)


def _decider(arguments: argparse.Namespace, model: SplitModel, hello: Hello) -> Decider:
    """Who decides, as the arguments and the server have it."""
    from rllib_mec.testbed.client import ServerClient
    from rllib_mec.testbed.decisions import Fixed, Scheduled

    decide = arguments.decide
    address = arguments.server.split(",")[0]
    if decide == "server" and not hello.scheduler:
        raise MecError(
            f"the server {address} has no scheduler: it was started without a checkpoint"
        )
    if decide == "auto":
        decide = "server" if hello.scheduler else "offload"
    if decide == "server":
        return Scheduled(
            ServerClient(address),
            arguments.name,
            model,
            distance_m=arguments.distance_m,
            codec=arguments.codec,
            timeout_s=arguments.timeout_ms / 1e3,
            note=_note,
        )
    points = {"local": model.full_local, "offload": 0}
    if decide not in points and not decide.isdigit():
        raise unknown("decision", decide, (*_DECISIONS, "a point's index"))
    point = points.get(decide, int(decide) if decide.isdigit() else 0)
    if point >= model.num_points:
        raise MecError(f"--decide {point}: the server has points 0 to {model.full_local}")
    return Fixed(point, arguments.codec or model.codec, arguments.power_w)


def _check(arguments: argparse.Namespace) -> None:
    """What can be wrong without asking a server."""
    for name in ("tasks", "threads"):
        if getattr(arguments, name) < 1:
            raise MecError(f"--{name} must be at least 1, got {getattr(arguments, name)}")
    for name in ("distance_m", "power_w", "timeout_ms"):
        value = getattr(arguments, name)
        if not 0 < value < math.inf:
            option = "--" + name.replace("_", "-")
            raise MecError(f"{option} must be a positive number, got {value}")
    if arguments.codec not in (None, *CODECS):
        raise unknown("codec", arguments.codec, CODECS)
    for name in ("csv", "json"):
        path = getattr(arguments, name)
        if path and not Path(path).absolute().parent.is_dir():
            raise MecError(f"--{name}: there is no folder {str(Path(path).parent)!r}")


def _note(message: str) -> None:
    print(f"rllib-mec device: {message}", file=sys.stderr, flush=True)

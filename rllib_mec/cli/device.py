"""Run a device: work through tasks, split with a MEC server; needs neither Ray nor an environment.

rllib-mec device --server 192.168.0.10:8600 --tasks 100
rllib-mec device --server 127.0.0.1:8600 --decide 2 --codec int8 --slowdown 5 --bandwidth-mbps 50
rllib-mec device --server 127.0.0.1:8600 --verify --csv tasks.csv
rllib-mec device --server 192.168.0.10:8600 --token-file token --tls-ca c.pem

Each task's row is in the files as soon as the task is done, whatever ends the device.
"""

from __future__ import annotations

import socket
from collections import Counter

import torch

from rllib_mec.cli.command import COUNT, NEW_FILE, OK, POSITIVE, command, ended_in_order, option
from rllib_mec.cli.dnn_arguments import weight_options
from rllib_mec.dnn.codecs import CODECS
from rllib_mec.errors import MecError, unknown
from rllib_mec.experiments.messages import note
from rllib_mec.testbed.access import Access, read_token, trusting
from rllib_mec.testbed.client import ServerClient
from rllib_mec.testbed.decisions import Fixed, Scheduled
from rllib_mec.testbed.device import Device, load_from
from rllib_mec.testbed.link import Link
from rllib_mec.testbed.records import Summary, TaskRecord
from rllib_mec.testbed.split_model import SplitModel, task_input
from rllib_mec.testbed.task_files import TaskFiles

_REASONS_SHOWN = 3
_DECISIONS = ("auto", "server", "local", "offload")


@command(help=__doc__)
@option("--server", "servers", required=True, metavar="HOST:PORT[,...]", help="the first decides")
@option(
    "--model",
    help="the DNN that the server is expected to have; one of your own must be named"
    " (default: whichever of torchvision's it has)",
)
@weight_options
@option("--name", default=socket.gethostname, show_default="the host's", help="of this device")
@option("--token-file", metavar="FILE", help="the server's token (default: $RLLIB_MEC_TOKEN)")
@option("--tls-ca", metavar="FILE", help="PEM certificate of the server, or whose signed it: TLS")
@option("--tasks", type=COUNT, default=100, help="how many")
@option("--task-seed", type=int, default=0, help="seed of the tasks' inputs")
@option(
    "--decide", default="auto", metavar="|".join((*_DECISIONS, "POINT")),
    help="who decides: the server's scheduler, or always the same (auto: the scheduler where there"
    " is one, else offload)",
)  # fmt: skip
@option("--codec", help="float32, float16, int8, int4 (default: the server's)")
@option("--distance-m", type=POSITIVE, default=50.0, help="to the base station")
@option("--power-w", type=POSITIVE, default=0.02, help="where none is decided")
@option("--slowdown", type=float, default=1.0, help="make compute take this many times as long")
@option("--bandwidth-mbps", type=float, help="shape the uplink to this rate")
@option("--timeout-ms", type=POSITIVE, default=1000.0, help="for a request, sending not counted")
@option("--wait-s", type=float, default=0.0, help="for the server, and for a name in use")
@option("--threads", type=COUNT, default=1, help="torch threads; the server alike")
@option("--verify", is_flag=True, help="compare every result with the whole DNN's")
@option("--csv", "csv_file", type=NEW_FILE, help="write a row for each task")
@option("--json", "json_file", type=NEW_FILE, help="write summary and tasks")
def device(
    servers: str,
    model: str | None,
    seed: int,
    weights: str | None,
    name: str,
    token_file: str | None,
    tls_ca: str | None,
    tasks: int,
    task_seed: int,
    decide: str,
    codec: str | None,
    distance_m: float,
    power_w: float,
    slowdown: float,
    bandwidth_mbps: float | None,
    timeout_ms: float,
    wait_s: float,
    threads: int,
    verify: bool,
    csv_file: str | None,
    json_file: str | None,
) -> int:
    """Work through the tasks and print a summary, also of what was done before Ctrl-C."""
    if codec not in (None, *CODECS):
        raise unknown("codec", codec, CODECS)
    torch.set_num_threads(threads)
    link, access = Link(bandwidth_mbps), Access(name, read_token(token_file), trusting(tls_ca))
    addresses, timeout_s = servers.split(","), timeout_ms / 1e3
    split, hello = load_from(
        addresses[0],
        model=model,
        seed=seed,
        weights=weights,
        access=access,
        timeout_s=timeout_s,
        wait_s=wait_s,
    )
    if decide == "auto":
        decide = "server" if hello.scheduler else "offload"
    if decide != "server":
        decider = Fixed(_point(decide, split), codec or split.codec, power_w)
    elif not hello.scheduler:
        raise MecError(
            f"the server {addresses[0]} has no scheduler: it was started without a checkpoint"
        )
    else:
        client = ServerClient(addresses[0], access=access)
        decider = Scheduled(
            client,
            name,
            split,
            distance_m=distance_m,
            codec=codec,
            timeout_s=timeout_s,
            wait_s=wait_s,
            note=note,
        )
    worker = Device(
        split,
        addresses,
        decider,
        name=name,
        link=link,
        access=access,
        slowdown=slowdown,
        timeout_s=timeout_s,
        verify=verify,
        note=note,
    )
    inputs = (task_input(split.input_shape, task_seed, i) for i in range(tasks))
    with ended_in_order(), TaskFiles(csv_file, json_file) as files:
        try:
            with worker:
                done = worker.run(inputs, tasks, lambda record, _: files.add(record))
            if verify:
                files.verified(done)
        finally:
            if files.records:
                _report(name, files.records)
    return OK


def _point(decide: str, model: SplitModel) -> int:
    """The partition point that is always taken."""
    points = {"local": model.full_local, "offload": 0}
    if decide not in points and not decide.isdigit():
        raise unknown("decision", decide, (*_DECISIONS, "a point's index"))
    point = points[decide] if decide in points else int(decide)
    if point >= model.num_points:
        raise MecError(f"--decide {point}: the server has points 0 to {model.full_local}")
    return point


def _report(name: str, records: list[TaskRecord]) -> None:
    """Print the summary."""
    print(f"{name}: {Summary.of(records)}")
    reasons = Counter(record.reason for record in records if record.fell_back)
    for reason, count in reasons.most_common(_REASONS_SHOWN):
        print(f"  {count} fell back: {reason}")
    errors = [record.max_abs_error for record in records if record.max_abs_error is not None]
    if errors:
        same = sum(error == 0.0 for error in errors)
        worst = max(errors)
        print(f"{same} of {len(errors)} results equal the whole DNN's, largest error {worst:.3g}")

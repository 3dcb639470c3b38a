"""What training on a Ray cluster survives: real ``ray start`` nodes on loopback, killed.

``kill -9`` of an env runner, a worker node, the driver and the head (these two, then ``--resume``),
and of a learner (``max_failures``); a trial that fails; a node that joins late; storage that is
gone in mid-run. Lost are env steps beyond one checkpoint interval, counted in ``result.json``.

    python benchmarks/cluster_faults.py

About 7 minutes on 2 idle cores. It writes ``results/cluster.md``.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable

from faults.bench import Row
from faults.cluster import Node, cluster, wait
from faults.training import EVERY, Training, actors

RESULTS = pathlib.Path(__file__).resolve().parent / "results"


def kill_runner(folder: pathlib.Path) -> Row:
    """One of two env runners."""
    with cluster(2, 2) as nodes:
        run = Training(folder, nodes[0].address)
        run.reach(7)
        os.kill(actors(nodes)[0], signal.SIGKILL)
        code = run.end()
        again = run.said("are lost", "there again")
        return run.row("kill -9 of an env runner", code, f"exit {code}; {again}")


def kill_node(folder: pathlib.Path) -> Row:
    """A worker node with an env runner; nothing takes its place."""
    with cluster(2, 1) as nodes:
        run = Training(folder, nodes[0].address)
        run.reach(7)
        on_it = len(actors(nodes[1:]))
        nodes[1].kill()
        code = run.end()
        seen = f"{on_it} env runners were on it; exit {code}; {run.said('missing for', 'are lost')}"
        return run.row("kill -9 of a worker node", code, seen)


def kill_driver(folder: pathlib.Path) -> Row:
    """The process of ``rllib train``."""
    with cluster(3) as nodes:
        run = Training(folder, nodes[0].address)
        run.reach(8)
        run.kill()
        run.start(nodes[0].address, "--resume")
        code = run.end()
        seen = f"--resume: exit {code}, {run.done_again()} iterations done again;"
        return run.row("kill -9 of the driver", code, f"{seen} {run.said('going on')}")


def kill_head(folder: pathlib.Path) -> Row:
    """The node with the cluster's state; then a new cluster."""
    with cluster(3) as nodes:
        run = Training(folder, nodes[0].address)
        run.reach(8)
        began = time.monotonic()
        nodes[0].kill()
        first = run.end(150.0)
        took, said = time.monotonic() - began, run.said()
    with cluster(3) as nodes:
        run.start(nodes[0].address, "--resume")
        code = run.end()
        how = f"ended by itself after {took:.0f} s, exit {first}" if first is not None else "hung"
        seen = f"the driver {how}: {said}; --resume in a new cluster: exit {code},"
        seen += f" {run.done_again()} iterations done again"
        return run.row("kill -9 of the head", code, seen)


def kill_learner(folder: pathlib.Path) -> Row:
    """One of two learners; the trial is tried again."""
    with cluster(4) as nodes:
        config = {"num_learners": 2, "num_env_runners": 1, "train_batch_size_per_learner": 256}
        run = Training(folder, nodes[0].address, config, max_failures=2)
        run.reach(8)
        os.kill(actors(nodes, r"(_WrappedExecutable|\w*Learner)")[0], signal.SIGKILL)
        code = run.end()
        seen = f"with max_failures: 2, exit {code}, {run.done_again()} iterations done again;"
        return run.row("kill -9 of a learner", code, f"{seen} {run.said('going on')}")


def fail_trial(folder: pathlib.Path) -> Row:
    """The trial's own process is killed; the trial is tried again."""
    with cluster(3) as nodes:
        run = Training(folder, nodes[0].address, max_failures=2)
        run.reach(8)
        os.kill(actors(nodes, "EMHPPO")[0], signal.SIGKILL)
        code = run.end()
        seen = f"with max_failures: 2, exit {code}, {run.done_again()} iterations done again;"
        return run.row("kill -9 of a trial", code, f"{seen} {run.said('going on')}")


def late_node(folder: pathlib.Path) -> Row:
    """A cluster that is too small for the trial, until a node joins."""
    with cluster(1) as nodes:
        run = Training(folder, nodes[0].address)
        wait(lambda: "waiting until" in run.log.read_text() or run.ended)
        early = len(run.iterations)
        nodes.append(Node(1, nodes[0].address, num_cpus=2).wait())
        run.reach(4)
        on_it = len(actors(nodes[1:]))
        code = run.end()
        seen = f"{early} iterations before; {run.said('waiting until')}; then {on_it} env runners"
        return run.row("a node that joins late", code, f"{seen} on it, exit {code}")


def lose_storage(folder: pathlib.Path) -> Row:
    """The folder of the results becomes a file in mid-run, then is a folder again."""
    with cluster(3) as nodes:
        run = Training(folder, nodes[0].address)
        run.reach(8)
        kept = folder / "kept"
        run.storage.rename(kept)
        run.storage.touch()
        first = run.end()
        said = run.said("rllib: error")
        run.storage.unlink()
        if run.storage.exists():
            shutil.rmtree(run.storage)
        kept.rename(run.storage)
        run.start(nodes[0].address, "--resume")
        code = run.end()
        seen = f"exit {first}: {said}; once it is back, --resume: exit {code},"
        return run.row("storage lost", code, f"{seen} {run.done_again()} iterations done again")


FAULTS: dict[str, Callable[[pathlib.Path], Row]] = {
    "runner": kill_runner,
    "node": kill_node,
    "driver": kill_driver,
    "head": kill_head,
    "learner": kill_learner,
    "trial": fail_trial,
    "late": late_node,
    "storage": lose_storage,
}


def report(rows: list[Row], machine: str, load: float) -> str:
    """The Markdown page."""
    lines = [
        "# What training on a cluster survives",
        "",
        f"`{' '.join(['python', 'benchmarks/cluster_faults.py', *sys.argv[1:]])}`",
        "",
        f"{machine}, load average {load:.1f} before it began. EMH-PPO, 2 env runners, 40 iterations"
        f" of 512 windows, a checkpoint every {EVERY} iterations, on nodes that are `ray start`"
        " processes of 127.0.0.2, 127.0.0.3, ... with temporary folders of their own. Lost are env"
        " steps beyond a checkpoint interval, counted in `result.json`; survived is a run that has"
        " then ended with exit code 0.",
        "",
        "| fault | tried | survived | lost | what was seen |",
        "|---|--:|--:|--:|---|",
        *(f"| {r.fault} | {r.tried} | {r.survived} | {r.lost} | {r.seen} |" for r in rows),
        "",
        f"**Lost: {sum(row.lost for row in rows)} env steps.**",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Try everything, write the page; returns the exit code: 1 if something was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS, help="where to write")
    args = parser.parse_args()
    from machine import describe_machine

    load, rows = os.getloadavg()[0], []
    with tempfile.TemporaryDirectory() as name:
        for fault in args.only:
            rows.append(FAULTS[fault](pathlib.Path(name, fault)))
            print(rows[-1], flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "cluster.md").write_text(report(rows, describe_machine(), load))
    return int(any(row.lost for row in rows))


if __name__ == "__main__":
    sys.exit(main())

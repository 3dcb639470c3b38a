"""What the testbed survives: on real processes, each task's result compared, each row counted.

Fuzzed frames and requests, to the scheduler too, uploads that do not end, overload by one device,
kills of each of the server's processes, full disks, folders that go, a second user's server on the
machine, SIGTERM of both sides. A task counts as lost if it has no result, a wrong one, or no row on
disk.

    python benchmarks/testbed_faults.py [--tasks 150]

About 5 minutes on 2 idle cores. It writes ``results/testbed_faults.md``. As root it starts the
second server as another user, else as the same.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
import tempfile
import time

from faults.bench import MODEL, Bench, Row, Server
from faults.ends import device_ends, kills, second_server, server_ends
from faults.requests import fuzz, overload, slow_uploads
from faults.scheduler import fuzz_scheduler, kill_scheduler, make_checkpoint

RESULTS = pathlib.Path(__file__).resolve().parent / "results"


def leftovers() -> int:
    """Folders of servers that lie in the temporary folder."""
    return len(list(pathlib.Path("/tmp").glob("mec-*/haproxy")))


def report(rows: list[Row], machine: str, load: float) -> str:
    """The Markdown page; none where a fault was not tried at all."""
    if untried := [row.fault for row in rows if not row.tried]:
        raise SystemExit(f"no page is written, as these were not tried: {', '.join(untried)}")
    lines = [
        "# What the testbed survives",
        "",
        f"`{' '.join(['python', 'benchmarks/testbed_faults.py', *sys.argv[1:]])}`",
        "",
        f"{machine}, load average {load:.1f} before it began. {MODEL}; each task's result is"
        " compared with the whole DNN's, bit for bit, and each row on disk is counted. A task that"
        " a device finishes by itself, as the server does not, falls back; it is not lost.",
        "",
        "| fault | tried | survived | lost | what was seen |",
        "|---|--:|--:|--:|---|",
        *(f"| {r.fault} | {r.tried} | {r.survived} | {r.lost} | {r.seen} |" for r in rows),
        "",
        f"**Lost: {sum(row.lost for row in rows)}.**",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Try everything, write the page; returns the exit code: 1 if something was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=150, help="of a device at work")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS, help="where to write")
    args = parser.parse_args()
    import torch
    from machine import describe_machine

    torch.set_num_threads(1)
    load, rows = os.getloadavg()[0], []

    def tell(*more: Row) -> None:
        rows.extend(more)
        for row in more:
            print(row, flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        checkpoint = make_checkpoint(folder)
        server = Server(folder, seed=0, checkpoint=checkpoint)
        bench = Bench(server, args.tasks)
        tell(fuzz(server, bench), slow_uploads(server, bench), overload(server, bench))
        tell(*device_ends(server, folder), *second_server(server, bench, folder))
        tell(fuzz_scheduler(server, bench), kill_scheduler(server, bench))
        tell(*kills(server, bench))
        with bench.at_work(server) as outcome:
            server.process.kill()
            server.process.wait()
        left = leftovers()
        time.sleep(61)  # younger folders may be of servers that are about to start
        again = Server(folder, seed=0, checkpoint=checkpoint)
        cleaned = left - (leftovers() - 1)
        seen = f"{outcome[1]} fell back; the next start cleaned {cleaned} of {left} folders"
        tell(Row("kill -9 of the server", 1, 1, outcome[0], seen))
        tell(server_ends(again, bench))
    text = report(rows, describe_machine(), load)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "testbed_faults.md").write_text(text)
    print(text)
    return int(any(row.lost for row in rows))


if __name__ == "__main__":
    sys.exit(main())

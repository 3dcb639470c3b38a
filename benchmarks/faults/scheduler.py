"""Hostile requests to the scheduler, and its end, while two devices play its windows."""

from __future__ import annotations

import http.client
import json
import math
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from faults.bench import MODEL, TOKEN, Bench, Row, Server

NAMES = ("md_0", "md_1")
_MAKE = f"""
import ray
from rllib_mec.algorithms.emh_ppo import EMHPPOConfig
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
scenario = {{"num_devices": {len(NAMES)}, "dnn": "{MODEL}", "max_window": 3}}
config = EMHPPOConfig().environment("mec_task_window_v0", env_config=scenario)
algorithm = config.env_runners(num_envs_per_env_runner=2).debugging(seed=0).build_algo()
algorithm.save_to_path("PATH")
"""


def make_checkpoint(folder: Path) -> Path:
    """An untrained policy for two devices.

    Args:
        folder: Where to put it.
    """
    path = folder / "checkpoint"
    code = _MAKE.replace("PATH", str(path))
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return path


def _hostile(rng: random.Random) -> tuple[str, bytes, str]:
    """Route, body and token of a request that must be refused."""
    route = rng.choice(("register", "window", "leave"))
    who = {"device": "stranger", "identity": "0" * 32}
    body: dict = {**who, "sequence": 1, "remaining": 5, "distance_m": 50.0}
    if route == "register":
        body = {**who, "model": MODEL, "heads": ["0"], "distance_m": 50.0}
    kind, field = rng.randrange(10), rng.choice(list(body))
    if kind == 0:  # another device's name
        body["device"] = rng.choice(NAMES)
        body = body if route != "leave" else {name: body[name] for name in who}
    elif kind == 1:
        body[field] = rng.choice([None, [], {}, True, "x", 1.5, "\0", [[1]], -1])
        body["more"] = 1
    elif kind == 2:
        route, body["distance_m"] = "window", rng.choice([math.nan, math.inf, -1.0, 0.0, 1e300])
    elif kind == 3:
        route, body["sequence"] = "window", rng.choice([2**62, 2**70, -(2**62), 10**400])
    elif kind == 4:
        body["device"] = "x" * 2**21
    elif kind == 5:
        return route, json.dumps(body).encode(), "b" * 32
    elif kind == 6:
        route, body = "window", {**who, "sequence": 1, "remaining": 5, "distance_m": 50.0}
    elif kind == 7:
        return route, rng.choice([b"[", b'{"device":']) * 100_000, TOKEN
    elif kind == 8:
        data = bytearray(json.dumps({**body, "more": 1}).encode())
        for _ in range(rng.randrange(1, 5)):
            data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
        return route, bytes(data[: rng.randrange(len(data))]), TOKEN
    else:
        return rng.choice(("place", "../register", "window/9", "v2/x")), b"{}", TOKEN
    return route, json.dumps(body).encode(), TOKEN


def _is_refused(server: Server, route: str, body: bytes, token: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request("POST", f"/schedule/{route}", body, {"Authorization": f"Bearer {token}"})
        return 400 <= connection.getresponse().status < 500
    except (BrokenPipeError, ConnectionResetError):
        return True  # it hung up, rather than read all of it
    finally:
        connection.close()


def fuzz_scheduler(server: Server, bench: Bench) -> Row:
    """Wrong types, NaN, huge numbers, names and bodies, deep JSON, others' names and tokens."""
    rng, count, huge = random.Random(0), 1000, 5
    with bench.at_work(server, NAMES, scheduled=True) as outcome:
        well = sum(_is_refused(server, *_hostile(rng)) for _ in range(count))
        large = b'{"device": "' + b"x" * 100_000_000 + b'"}'
        well += sum(_is_refused(server, "register", large, TOKEN) for _ in range(huge))
    lost, local, records = outcome
    well = well if server.health(path="/schedule/health") < 5e3 else 0
    windows = len({record.window for record in records if record.window is not None})
    seen = f"beside them two devices played {windows} windows, {local} tasks fell back"
    return Row("fuzzed requests to the scheduler", count + huge, well, lost, seen)


def kill_scheduler(server: Server, bench: Bench) -> Row:
    """Kill -9 of the scheduler's process while two devices play its windows."""
    with bench.at_work(server, NAMES, scheduled=True) as outcome:
        victims = server.processes("ray::ServeReplica:scheduler")
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
    lost, local, _ = outcome
    back = server.wait(lambda: server.health(path="/schedule/health") < 5e3)
    seen = f"the devices went on, {local} of their tasks without a decision of it"
    return Row("kill -9 of the scheduler", len(victims), len(victims) * back, lost, seen)

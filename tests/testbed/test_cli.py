"""``rllib-mec device`` and ``rllib-mec server``: what they print, and what they refuse."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest
import tiny_model
import torch
from fake_server import fails, fake_server

from rllib_mec.cli.mec import main
from rllib_mec.errors import MecError
from rllib_mec.testbed.records import read_json

FORBIDDEN = ("ray", "pettingzoo", "gymnasium", "numba", "scipy", "networkx", "fastapi", "pandas")
"""What a small board need not have."""


NAMED = ["--model", tiny_model.PATH]
"""A device runs no code that only the server names."""

PATIENT = ["--timeout-ms", "60000"]
"""So that no task falls back just because the machine is busy."""


@pytest.fixture
def server(tiny):
    with fake_server(tiny) as server:
        yield server


def run_without(modules, arguments, environment):
    script = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({modules!r}))\n"  # importing them raises ImportError
        "from rllib_mec.cli.mec import main\n"
        f"sys.exit(main({arguments!r}))"
    )
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    path = os.pathsep.join((root, environment["PYTHONPATH"]))
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**environment, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_device_works_where_only_torch_and_numpy_are(server, server_environment, tmp_path):
    table = str(tmp_path / "tasks.json")
    arguments = [
        "device",
        "--server",
        server.address,
        *NAMED,
        "--tasks",
        "7",
        "--verify",
        "--json",
        table,
    ]
    done = run_without(FORBIDDEN, [*arguments, *PATIENT], server_environment)
    assert done.returncode == 0, done.stderr
    assert "7 of 7 results equal the whole DNN's" in done.stdout
    assert server.answered == 7
    assert [record.fell_back for record in read_json(table)] == [False] * 7


def test_the_summary_says_why_tasks_fell_back(server, capsys):
    server.misbehave = fails
    assert main(["device", "--server", server.address, *NAMED, "--tasks", "3", *PATIENT]) == 0
    captured = capsys.readouterr()
    assert "100% local (100% fell back)" in captured.out
    assert "1 fell back: the server: it failed with HTTP status 500" in captured.out
    assert "going on locally" in captured.err


def test_a_fixed_point_and_codec_are_used(server, capsys, tmp_path):
    table = str(tmp_path / "tasks.json")
    command = [
        "device",
        "--server",
        server.address,
        *NAMED,
        "--tasks",
        "2",
        "--json",
        table,
        *PATIENT,
    ]
    assert (
        main([*command, "--decide", "1", "--codec", "int8", "--csv", str(tmp_path / "x.csv")]) == 0
    )
    assert {(r["point"], r["codec"]) for r in json.loads(open(table).read())["tasks"]} == {
        (1, "int8")
    }
    assert len((tmp_path / "x.csv").read_text().splitlines()) == 3
    assert main([*command, "--decide", "local"]) == 0
    assert all(record.bytes_sent == 0 for record in read_json(table))


def without(usual, arguments):
    """Pairs of a flag and its value, but for the flags that are among the arguments."""
    pairs = zip(usual[::2], usual[1::2], strict=True)
    return [text for flag, value in pairs if flag not in arguments for text in (flag, value)]


@pytest.fixture
def interruptible():
    """Signals count, also where the tests run in the background, which shells let ignore some."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_device_reports_what_it_did(server, capsys, tmp_path):
    def interrupts_instead_of_the_third(handler, reply):
        if len(server.request_ids) < 3:
            return handler.reply(200, reply)
        os.kill(os.getpid(), signal.SIGINT)
        handler.rfile.read(1)  # until the device hangs up
        handler.close_connection = True

    server.misbehave = interrupts_instead_of_the_third
    table = str(tmp_path / "tasks.json")
    command = ["device", "--server", server.address, *NAMED, "--tasks", "5", "--json", table]
    assert main([*command, *PATIENT]) == 130
    assert len(read_json(table)) == 2
    assert f"{socket.gethostname()}: 2 tasks" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "0"], "--tasks must be at least 1"),
        (["--tasks", "many"], "--tasks must be a whole number, but is 'many'"),
        (["--decide", "ofload"], "unknown decision 'ofload': did you mean 'offload'?"),
        (["--decide", "99"], "--decide 99: the server has points 0 to"),
        (["--decide", "server"], "has no scheduler: it was started without a checkpoint"),
        (["--codec", "int9"], "unknown codec 'int9': did you mean 'int8'?"),
        (["--name", "a b"], "a device's name has 1 to 64 letters, digits and . : @ _ -, got 'a b'"),
        (["--token-file", "/no/token"], "cannot read the token of '/no/token': No such file"),
        (["--tls-ca", "/no/c.pem"], "cannot trust '/no/c.pem': No such file"),
        (["--model", "resnet50"], "has no DNN 'resnet50': it serves 'tiny_model:TinyNet'"),
        (["--seed", "5"], "other weights: give both sides the same --seed or --weights"),
        (["--weights", "/nowhere.pt"], "cannot read the weights '/nowhere.pt'"),
        (["--seed", "5", "--weights", "x"], "--weights is not allowed with --seed"),
        (["--slowdown", "0.1"], "slowdown must be a number of at least 1"),
        (["--bandwidth-mbps", "-1"], "bandwidth_mbps must be a positive number"),
        (["--timeout-ms", "nan"], "--timeout-ms must be a finite number, but is 'nan'"),
        (["--csv", "/nowhere/x.csv"], "--csv: there is no folder '/nowhere'"),
        (["--server", "nonsense"], "expected HOST:PORT, got 'nonsense'"),
        (["--server", "127.0.0.1:1"], "the server 127.0.0.1:1: it refuses connections"),
        (["--server", "no.such.host.invalid:80"], "its host is not known"),
        (["--unknown"], "unknown flag '--unknown'"),
    ],
)
def test_a_device_refuses_bad_input_in_one_line(server, capsys, arguments, message):
    usual = ["--server", server.address, *NAMED, "--tasks", "1", *PATIENT]
    assert main(["device", *without(usual, arguments), *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def refused(server, capsys, *arguments):
    """The line that a device ends with."""
    command = ["device", "--server", server.address, *arguments, "--tasks", "1", *PATIENT]
    assert main(command) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    return captured.err


def test_code_that_the_user_did_not_name_is_refused(server, capsys):
    line = refused(server, capsys)
    assert "serves 'tiny_model:TinyNet', which is code of this machine that nobody named" in line


def test_a_token_that_the_server_refuses_is_said(server, capsys):
    server.hello_status = 401
    assert "and got no token" in refused(server, capsys, *NAMED)


def test_a_name_in_use_is_said(server, capsys):
    server.hello = dataclasses.replace(server.hello, scheduler=True)
    why = {"detail": "another device has the name 'a': give this one a name of its own"}
    server.schedule = {
        "/schedule/register": lambda request: (423, why),
        "/schedule/leave": lambda request: (404, {"detail": "another device has the name"}),
    }
    assert "another device has the name 'a'" in refused(server, capsys, *NAMED, "--name", "a")


def scheduled(server):
    """Let a server have a scheduler; returns the names that were given back to it."""
    server.hello, left = dataclasses.replace(server.hello, scheduler=True), []

    def leave(request):
        left.append(request["device"])
        return 200, {}

    task = {"point": 0, "server": 0, "channel": 0, "power_w": 0.1}
    server.schedule = {
        "/schedule/register": lambda request: (200, {"deadline_ms": 10, "codec": "float32"}),
        "/schedule/window": lambda request: (200, {"tasks": [task]}),
        "/schedule/leave": leave,
    }
    return left


def test_a_device_that_is_told_to_end_leaves_its_rows(server, capsys, tmp_path):
    def ends_instead_of_the_third(handler, reply):
        if len(server.request_ids) < 3:
            return handler.reply(200, reply)
        os.kill(os.getpid(), signal.SIGTERM)
        handler.rfile.read(1)  # until the device hangs up
        handler.close_connection = True

    server.misbehave = ends_instead_of_the_third
    table = tmp_path / "tasks.csv"
    command = ["device", "--server", server.address, *NAMED, "--tasks", "5", "--csv", str(table)]
    assert main([*command, *PATIENT]) == 130
    assert len(table.read_text().splitlines()) == 3  # with the header
    assert capsys.readouterr().err.strip() == "rllib-mec: error: interrupted"


def fills_the_disk(monkeypatch):
    def full(self, record):
        raise MecError("cannot write 'x': No space left on device")

    monkeypatch.setattr("rllib_mec.testbed.task_files.TaskFiles.add", full)


def fails_to_warm_up(monkeypatch):
    def fail(self):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("rllib_mec.testbed.split_model.SplitModel.warm_up", fail)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("when", ["it asks for a decision", "it registers", "a task is away"])
def test_however_a_device_is_told_to_end_it_gives_its_name_back(server, capsys, number, when):
    left = scheduled(server)
    if when == "a task is away":

        def hangs(handler, reply):
            os.kill(os.getpid(), number)
            handler.rfile.read(1)  # until the device hangs up
            handler.close_connection = True

        server.misbehave = hangs
    else:
        route = "/schedule/window" if "decision" in when else "/schedule/register"

        def ends(request):
            os.kill(os.getpid(), number)
            threading.Event().wait(0.3)  # the device is gone before it is answered
            return 200, {}

        server.schedule[route] = ends
    assert main(["device", "--server", server.address, *NAMED, "--name", "a", *PATIENT]) == 130
    assert left == ["a"]
    assert capsys.readouterr().err.endswith("rllib-mec: error: interrupted\n")


@pytest.mark.parametrize("fault", [fills_the_disk, fails_to_warm_up])
def test_a_device_that_fails_gives_its_name_back(server, monkeypatch, fault):
    left = scheduled(server)
    fault(monkeypatch)
    with pytest.raises(RuntimeError) if fault is fails_to_warm_up else contextlib.nullcontext():
        assert main(["device", "--server", server.address, *NAMED, "--name", "a", *PATIENT]) == 2
    assert left == ["a"]


def test_a_device_that_was_killed_can_wait_for_its_name(server, capsys, monkeypatch):
    monkeypatch.setattr("rllib_mec.testbed.decisions._PAUSE_S", 0.01)
    scheduled(server)
    registers, refusals = server.schedule["/schedule/register"], [(423, {"detail": "taken"})] * 3
    server.schedule["/schedule/register"] = lambda request: (
        refusals.pop() if refusals else registers(request)
    )
    command = ["device", "--server", server.address, *NAMED, "--name", "a", "--tasks", "1"]
    assert main([*command, *PATIENT]) == 2
    assert "taken" in capsys.readouterr().err
    assert main([*command, *PATIENT, "--wait-s", "60"]) == 0
    captured = capsys.readouterr()
    assert captured.err.count("waiting for up to 60 s: taken") == 1
    assert "a: 1 tasks" in captured.out


TINY = ["--model", tiny_model.PATH, "--input", "3,16,16"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a model or a checkpoint"),
        (["--model", "mobilenet_v3"], "unknown DNN 'mobilenet_v3': did you mean 'mobilenet_v2'?"),
        (["--model", "no.such:thing"], "ModuleNotFoundError: No module named 'no'"),
        ([*TINY[:2], "--input", "3,16"], "cannot run on an input of this shape"),
        ([*TINY[:2], "--input", "3,x"], "--input must be sizes such as 3,224,224, got '3,x'"),
        ([*TINY, "--weights", "/nowhere.pt"], "cannot read the weights '/nowhere.pt'"),
        ([*TINY, "--method", "paretto"], "unknown partition method 'paretto': did you mean"),
        ([*TINY, "--codec", "int9"], "unknown codec 'int9'"),
        ([*TINY, "--replicas", "0"], "replicas must be a whole number of at least 1"),
        ([*TINY, "--devices", "3"], "devices is for the scheduler: give a checkpoint too"),
        ([*TINY, "--deadline-ms", "0"], "deadline_s must be a positive number"),
        ([*TINY, "--port", "99999"], "cannot listen on 127.0.0.1:99999"),
        ([*TINY, "--host", "203.0.113.1"], "cannot listen on 203.0.113.1:"),
        ([*TINY, "--lease-s", "nan"], "lease_s must be a positive number"),
        ([*TINY, "--tls-cert", "c.pem"], "TLS needs a certificate and its key: give both"),
        ([*TINY, "--tls-cert", "/no/c.pem", "--tls-key", "k.pem"], "cannot read '/no/c.pem'"),
        ([*TINY, "--token-file", "/no/token"], "cannot read the token of '/no/token': No such"),
        ([*TINY, "--csv", "/no/rows.csv"], "--csv: there is no folder '/no'"),
        (["--checkpoint", "/nowhere"], "no such checkpoint: /nowhere"),
    ],
)
def test_a_server_refuses_bad_input_in_one_line(capsys, monkeypatch, arguments, message):
    monkeypatch.setenv("RLLIB_MEC_TOKEN", "0" * 32)
    assert main(["server", *without(["--port", "0"], arguments), *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_a_server_that_others_can_reach_needs_a_token(capsys, monkeypatch):
    monkeypatch.delenv("RLLIB_MEC_TOKEN", raising=False)
    assert main(["server", "--port", "0", *TINY, "--host", "0.0.0.0"]) == 2
    error = capsys.readouterr().err
    assert "0.0.0.0 can be reached from other machines: it needs a token, a file of" in error
    assert error.count("\n") == 1


def test_a_port_in_use_is_said_in_one_line(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["server", *TINY, "--port", str(port)]) == 2
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in capsys.readouterr().err


def test_threads_are_set(server, capsys):
    before = torch.get_num_threads()
    try:
        assert (
            main(
                [
                    "device",
                    "--server",
                    server.address,
                    *NAMED,
                    "--tasks",
                    "1",
                    "--threads",
                    "2",
                    *PATIENT,
                ]
            )
            == 0
        )
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)

"""A DNN of a user's own whose code ends the process, or fails, is one line and exit code 2."""

import sys

import pytest

from rllib_mec.cli.mec import main

MODULE = """
import asyncio
import sys
from torch import nn

{top}

class Ends(nn.Module):
    def forward(self, x):
        sys.exit(3)

def exits():
    sys.exit("no weights here")

def exits_silently():
    raise SystemExit

def cancelled():
    raise asyncio.CancelledError

def fails():
    return {{}}["weights"]

def ends_when_run():
    return Ends()
"""
OWN = ["dnn_input=[3,8,8]", "server_latency_ms=1"]
COMMANDS = [
    ["compare", "--policies", "local-only", "--episodes", "2", "--scenario", *OWN],
    ["partition", "--input", "3,8,8", "--model"],
]


def told(capsys, command, factory):
    where = f"dnn={factory}" if command[0] == "compare" else factory
    assert main([*command, where]) == 2
    error = capsys.readouterr().err
    assert error.startswith("rllib-mec: error: ") and error.count("\n") == 1
    return error


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    """Writes the user's module; the name of a test's is its own."""
    monkeypatch.chdir(tmp_path)

    def write(name, top=""):
        (tmp_path / f"{name}.py").write_text(MODULE.format(top=top))
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return write


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[0])
@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        ("exits", "SystemExit: no weights here (own_nets.py:13)"),
        ("exits_silently", "SystemExit (own_nets.py:16)"),
        ("cancelled", "CancelledError (own_nets.py:19)"),
        ("fails", "KeyError: 'weights' (own_nets.py:22)"),
    ],
)
def test_what_a_factory_raises_is_told(module, capsys, command, factory, reason):
    path = f"{module('own_nets')}:{factory}"
    assert f"the factory of DNN {path!r} failed: {reason}" in told(capsys, command, path)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[0])
def test_a_module_that_ends_the_process_is_told(module, capsys, command):
    path = f"{module('own_exit', top='sys.exit(4)')}:exits"
    assert f"cannot import DNN {path!r}: SystemExit: 4 (own_exit.py:6)" in told(
        capsys, command, path
    )


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[0])
def test_a_network_that_ends_the_process_is_told(module, capsys, command):
    error = told(capsys, command, f"{module('own_end')}:ends_when_run")
    assert "cannot trace Ends" in error and "own_end.py:10" in error


def test_ctrl_c_in_a_factory_is_ctrl_c(module, capsys):
    (name := module("own_stop", top="def stop():\n    raise KeyboardInterrupt\n"))
    assert main([*COMMANDS[0], f"dnn={name}:stop"]) == 130

"""A running server: what it says, and what it loads while it runs."""

from __future__ import annotations

import dataclasses

import pytest
import tiny_model
import torch

from rllib_mec.errors import MecError
from rllib_mec.testbed import running
from rllib_mec.testbed.haproxy import Front
from rllib_mec.testbed.options import ServerOptions
from rllib_mec.testbed.running import RunningServer
from rllib_mec.testbed.sources import Sources

OPTIONS = ServerOptions(tiny_model.PATH, tiny_model.INPUT_SHAPE, method="operator")


@pytest.fixture
def told(monkeypatch):
    """What replicas are told; they answer with the texts in ``says``."""
    calls, says = [], [""]

    def broadcast(options, *what):
        calls.append(what)
        if "a replica died" in says:
            raise RuntimeError("a replica died")
        return says

    monkeypatch.setattr(running, "_broadcast", broadcast)
    monkeypatch.setattr(running, "is_on_loopback", lambda: True)
    return calls, says


@pytest.fixture
def server_of(tiny, tmp_path):
    def make(options=OPTIONS, front=None):
        front = front or Front("127.0.0.1", 8600, metrics_port=9000)
        sources = Sources(tmp_path / "versions", options)
        return RunningServer(
            options, options, front, sources, tiny.name, tiny.num_points, has_token=False
        )

    return make


def test_it_says_all_addresses(server_of, told):
    assert "; it listens on 127.0.0.1:8600 (tasks); 127.0.0.1:9000/metrics; 127.0.0.1 (" in str(
        server_of()
    )
    open_to_all = Front("0.0.0.0", 1, "c", "k", metrics=("0.0.0.0", 2), metrics_port=3)
    server = dataclasses.replace(server_of(front=open_to_all), has_token=True)
    assert server.listens()[:3] == [
        "0.0.0.0:1 (tasks, TLS, token)", "0.0.0.0:2/metrics", "127.0.0.1:3/metrics",
    ]  # fmt: skip


def test_new_weights_are_a_new_version(server_of, told):
    server = server_of()
    server.reload()
    server.reload()
    assert (server.version, told[0]) == (3, [("reload", 2), ("reload", 3)])
    assert [source.number for source in server.sources.kept()] == [3]  # the weights are the same


def test_weights_of_another_network_change_nothing(server_of, told, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(torch.nn.Linear(2, 2).state_dict(), path)
    server = server_of(dataclasses.replace(OPTIONS, weights=str(path)))
    with pytest.raises(MecError, match="holds no weights of 'tiny_model:TinyNet'"):
        server.reload()
    assert (server.version, told[0]) == (1, [])


def test_a_checkpoint_of_another_network_changes_nothing(server_of, told, monkeypatch):
    options = dataclasses.replace(OPTIONS, checkpoint="/somewhere")
    server = server_of(options)
    other = dataclasses.replace(options, heads=(0, 1))
    monkeypatch.setattr(ServerOptions, "resolved", lambda self: other)
    with pytest.raises(MecError, match="the checkpoint /somewhere is of another network"):
        server.reload()
    assert (server.version, told[0]) == (1, [])


def test_what_a_replica_cannot_load_is_said(server_of, told):
    told[1][:] = ["", "cannot read the weights"]
    server = server_of()
    with pytest.raises(MecError, match="cannot read the weights"):
        server.reload()
    assert server.version == 1
    assert server.sources.kept() == []


def test_a_replica_that_dies_while_it_loads_finds_the_version_when_it_is_back(server_of, told):
    told[1].append("a replica died")
    server = server_of()
    server.reload()
    assert server.version == 2
    assert [source.number for source in server.sources.kept()] == [2]

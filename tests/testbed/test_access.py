"""Tokens, certificates and names."""

from __future__ import annotations

import datetime
import http.server
import json
import ssl
import subprocess
import threading

import pytest
from fake_server import hello_of

from rllib_mec.errors import MecError
from rllib_mec.testbed.access import (
    Access,
    check_certificate,
    check_token,
    is_loopback,
    read_token,
    trusting,
)
from rllib_mec.testbed.client import ServerClient, ServerLost

TOKEN = "0123456789abcdef"


def make(folder, name, days=2, subject="127.0.0.1"):
    """A certificate of its own, and its key; with ``days`` below 0 it has expired."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    command += f" -subj /CN=mec -addext subjectAltName=IP:{subject} -keyout {key} -out {cert}"
    if days < 0:
        request = folder / "request.pem"
        made = command.replace("-x509 ", "").replace(str(cert), str(request))
        subprocess.run(made.split(), check=True, capture_output=True)
        start = datetime.datetime(2020, 1, 1)
        sign = f"openssl ca -selfsign -batch -config {folder}/ca.cnf -in {request} -out {cert}"
        sign += f" -keyfile {key} -notext -startdate {start:%y%m%d%H%M%SZ} -enddate 200201000000Z"
        (folder / "index.txt").touch()
        (folder / "ca.cnf").write_text(
            f"[ca]\ndefault_ca=a\n[a]\ndatabase={folder}/index.txt\nrand_serial=yes\n"
            f"new_certs_dir={folder}\ndefault_md=sha256\npolicy=p\ncopy_extensions=copy\n"
            "[p]\ncommonName=supplied\n"
        )
        subprocess.run(sign.split(), check=True, capture_output=True)
    else:
        subprocess.run([*command.split(), "-days", str(days)], check=True, capture_output=True)
    return str(cert), str(key)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    made = {name: make(folder, name) for name in ("good", "other")}
    made["elsewhere"] = make(folder, "elsewhere", subject="192.0.2.9")
    return {**made, "expired": make(folder, "expired", days=-1)}


def test_a_token_comes_from_a_file_or_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("RLLIB_MEC_TOKEN", raising=False)
    assert read_token() is None
    monkeypatch.setenv("RLLIB_MEC_TOKEN", "f" * 16)
    assert read_token() == "f" * 16
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert read_token(str(file)) == TOKEN
    assert Access("a", TOKEN).headers() == {
        "Authorization": f"Bearer {TOKEN}", "x-mec-device": "a",
    }  # fmt: skip
    assert Access().headers() == {}


@pytest.mark.parametrize("text", ["", "short", "a" * 20 + " b", "ü" * 20, "a" * 20 + "\nb"])
def test_what_is_no_token_is_refused(tmp_path, text):
    file = tmp_path / "token"
    file.write_text(text)
    with pytest.raises(MecError, match="characters: expected at least 16") as caught:
        read_token(str(file))
    assert not text or text not in str(caught.value)  # a token is never shown


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        ("127.0.0.1", True), ("localhost", True), ("::1", True), ("127.0.0.2", True),
        ("0.0.0.0", False), ("192.168.1.10", False), ("::", False), ("mec.example", False),
    ],
)  # fmt: skip
def test_only_on_the_loopback_no_token_is_needed(host, alone):
    assert is_loopback(host) is alone
    check_token(TOKEN, host)
    if alone:
        check_token(None, host)
    else:
        with pytest.raises(MecError, match="it needs a token"):
            check_token(None, host)


@pytest.mark.parametrize("name", ["a b", "x" * 65, "a\r\nX: y", "ü", "a/b"])
def test_a_name_that_could_harm_is_refused(name):
    with pytest.raises(MecError, match="a device's name has 1 to 64"):
        Access(name)


def test_a_server_checks_its_certificate_before_it_starts(certificates, tmp_path):
    check_certificate(*certificates["good"])
    with pytest.raises(MecError, match="certificate has expired"):
        check_certificate(*certificates["expired"])
    cert, other_key = certificates["good"][0], certificates["other"][1]
    with pytest.raises(MecError, match="are no certificate and key: KEY_VALUES_MISMATCH"):
        check_certificate(cert, other_key)
    with pytest.raises(MecError, match=r"cannot read '/no\.pem'"):
        check_certificate("/no.pem", other_key)
    nothing = tmp_path / "nothing"
    nothing.write_text("x")
    with pytest.raises(MecError, match="are no certificate and key"):
        check_certificate(str(nothing), other_key)
    with pytest.raises(MecError, match="it holds no certificate"):
        trusting(str(nothing))


@pytest.fixture
def secure(tiny):
    """Starts servers with TLS that say hello; returns their addresses."""
    started = []

    def start(certificate):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = json.dumps(hello_of(tiny).to_json()).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            def handle_error(self, request, client_address):
                pass

        server = Quiet(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        started.append(server)
        return f"127.0.0.1:{server.server_port}"

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def said_hello(address, trusted):
    client = ServerClient(address, access=Access(tls=trusting(trusted)))
    hello = client.hello(20.0)
    client.close()
    return hello


def test_a_device_takes_only_the_server_that_it_trusts(secure, certificates, tiny):
    good = certificates["good"][0]
    address = secure(certificates["good"])
    assert said_hello(address, good).fingerprint == tiny.fingerprint
    with pytest.raises(ServerLost, match="its certificate is refused: self-signed certificate"):
        said_hello(address, certificates["other"][0])


@pytest.mark.parametrize(
    ("which", "words"),
    [("expired", "certificate has expired"), ("elsewhere", "IP address mismatch")],
)
def test_a_device_says_what_is_wrong_with_a_certificate(secure, certificates, which, words):
    with pytest.raises(ServerLost, match=f"its certificate is refused: .*{words}"):
        said_hello(secure(certificates[which]), certificates[which][0])

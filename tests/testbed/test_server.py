"""The real server, a process of its own, with MobileNetV2 and a scheduler for two devices."""

from __future__ import annotations

import http.client
import json
import re
import select
import socket
import urllib.request

import pytest
import torch
from real_server import (
    HEADERS,
    LATE,
    PATIENT_S,
    client_of,
    device_of,
    frame_of,
    infer,
)
from server_process import (
    assert_all_right,
    run_devices,
    wait_until,
)

from rllib_mec.cli.mec import main
from rllib_mec.testbed.access import Access
from rllib_mec.testbed.client import (
    ServerClient,
    ServerRefused,
    parse_address,
)
from rllib_mec.testbed.decisions import Fixed
from rllib_mec.testbed.frames import ERROR, INFER, RESULT, Frame, decode, encode
from rllib_mec.testbed.tensors import result_leaves, to_blobs

pytestmark = pytest.mark.slow


def test_it_says_what_it_serves(server, client, model):
    assert f"ready: mobilenet_v2 at {server.address}, 7 points, scheduler for 2" in server.ready
    hello = client.hello(PATIENT_S)
    assert (hello.model, hello.exact, hello.scheduler) == ("mobilenet_v2", True, True)
    assert hello.fingerprint == model.fingerprint
    assert client.get_json("/health", PATIENT_S)["status"] == "ok"
    assert client.get_json("/schedule/health", PATIENT_S)["status"] == "ok"


def test_results_are_the_whole_dnns_bit_for_bit_at_every_point(server, model, tasks, whole):
    for point in range(model.full_local):
        with device_of(model, server.address, Fixed(point)) as device:
            [(records, results)] = run_devices([device], tasks[:3])
        assert_all_right(whole[:3], records, results)
        assert not any(record.fell_back for record in records)


def test_devices_at_once_get_their_own_results_bit_for_bit(server, model, tasks, whole):
    devices = [device_of(model, server.address, Fixed(i % 6), name=f"md_{i}") for i in range(4)]
    for records, results in run_devices(devices, tasks[:8]):
        assert_all_right(whole[:8], records, results)
        assert not any(record.fell_back for record in records)


def test_coded_requests_of_a_point_run_together_and_keep_their_order(server, model, tasks):
    singles = [model.tail(LATE, decoded(model, x)) for x in tasks[:8]]
    devices = [device_of(model, server.address, Fixed(LATE, "int8")) for _ in range(4)]
    for records, results in run_devices(devices, tasks[:8]):
        assert not any(record.fell_back for record in records)
        for result, single in zip(results, singles, strict=True):
            torch.testing.assert_close(result, single)


def decoded(model, x):
    from rllib_mec.dnn.codecs import CODECS

    return {
        name: CODECS["int8"].decode(CODECS["int8"].encode(tensor), tuple(tensor.shape))
        for name, tensor in model.head(LATE, x).items()
    }


def test_the_same_request_may_be_repeated(client, model, tasks, whole):
    data = encode(frame_of(model, tasks[0]))
    first, second = decode(infer(client, data)), decode(infer(client, data))
    assert first.request_id == second.request_id == decode(data).request_id
    for reply in (first, second):
        assert torch.equal(result_leaves(reply, [whole[0]])[0], whole[0])


def test_it_listens_for_this_machine_alone_and_says_where(server):
    found = server.listening()
    assert found and all(address.startswith(("127.", "::ffff:127.")) for address in found)
    said = server.ready.partition("it listens on ")[2]
    assert f"{server.address} (tasks, token); 127.0.0.1:" in said
    assert "127.0.0.1 (ports of Ray's own processes)" in said


def test_without_the_token_there_is_only_health(server):
    stranger = ServerClient(server.address)
    for path in ("/v2/health/live", "/v2/health/ready"):
        assert all(stranger.get_json(path, PATIENT_S).values())
        assert all(stranger.get_json(f"/schedule{path}", PATIENT_S).values())
    for path in ("/hello", "/health", "/schedule/health", "/v2/models/mobilenet_v2/ready"):
        with pytest.raises(ServerRefused, match="asks for its token, and got no token") as caught:
            stranger.get_json(path, PATIENT_S)
        assert caught.value.status == 401
    for path in ("/infer", "/schedule/register", "/schedule/window", "/schedule/leave"):
        with pytest.raises(ServerRefused, match="got another token"):
            ServerClient(server.address, access=Access("a", "b" * 32)).post_json(
                path, {}, PATIENT_S
            )
    stranger.close()


def test_it_answers_as_kserve_and_triton_do(client):
    path = "/v2/models/mobilenet_v2/ready"
    assert client.get_json(path, PATIENT_S) == {"name": "mobilenet_v2", "ready": True}
    with pytest.raises(ServerRefused, match="it serves 'mobilenet_v2'"):
        client.get_json("/v2/models/resnet50/ready", PATIENT_S)


def test_uploads_that_do_not_end_hold_up_nobody(server, client, model, tasks, whole):
    start = "POST /infer HTTP/1.1\r\nHost: x\r\nContent-Length: 600000\r\n"
    start += f"Authorization: {HEADERS['Authorization']}\r\n\r\naaaaaaaaaa"
    slow = [socket.create_connection(parse_address(server.address)) for _ in range(17)]
    for each in slow:
        each.sendall(start.encode())
    answered = lambda: select.select(slow, [], [], 0)[0]  # noqa: E731
    wait_until(answered)  # 16 are read, and the one too many is not
    assert b" 429 " in answered()[0].recv(100)
    client = client_of(server, "fast")
    assert client.get_json("/health", PATIENT_S)["waiting"] == 0
    assert client.get_json("/v2/health/ready", PATIENT_S) == {"ready": True}
    for x, expected in zip(tasks[:3], whole, strict=False):
        reply = decode(infer(client, encode(frame_of(model, x, point=0))))
        assert torch.equal(result_leaves(reply, [expected])[0], expected)
    client.close()
    for each in slow:
        each.close()


class TestRefusals:
    """What the server answers to frames that are none."""

    def refusal(self, client, data):
        with pytest.raises(ServerRefused) as caught:
            infer(client, data)
        return caught.value.status, str(caught.value)

    def test_a_truncated_frame(self, client, model, tasks):
        status, message = self.refusal(client, encode(frame_of(model, tasks[0]))[:-1])
        assert status == 400
        assert "its header says" in message

    def test_a_wrong_shape(self, client, model, tasks):
        tensors = {name: x[:, :-1] for name, x in model.head(LATE, tasks[0]).items()}
        blobs = to_blobs(tensors, "float32")
        frame = Frame(INFER, bytes(16), model.fingerprint, LATE, "float32", blobs)
        status, message = self.refusal(client, encode(frame))
        assert status == 400
        assert "(1, 1279)" in message and "(1, 1280)" in message

    def test_another_points_tensors(self, client, model, tasks):
        blobs = to_blobs(model.head(3, tasks[0]), "float32")
        frame = Frame(INFER, bytes(16), model.fingerprint, LATE, "float32", blobs)
        assert self.refusal(client, encode(frame))[0] == 400

    def test_a_point_that_is_not_there(self, client, model):
        for point in (model.full_local, 9999):
            frame = Frame(INFER, bytes(16), model.fingerprint, point)
            assert self.refusal(client, encode(frame))[0] == 400

    def test_other_weights(self, client, model, tasks):
        blobs = to_blobs(model.head(LATE, tasks[0]), "float32")
        frame = Frame(INFER, bytes(16), bytes(8), LATE, "float32", blobs)
        status, message = self.refusal(client, encode(frame))
        assert status == 409
        assert "other weights" in message

    def test_a_result_or_an_error_as_a_request(self, client, model):
        for kind in (RESULT, ERROR):
            assert self.refusal(client, encode(Frame(kind, bytes(16), model.fingerprint)))[0] == 400

    def test_an_error_names_its_request(self, server, model):
        host, port = parse_address(server.address)
        connection = http.client.HTTPConnection(host, port, timeout=PATIENT_S)
        frame = Frame(INFER, b"0123456789abcdef", model.fingerprint, 9999)
        connection.request("POST", "/infer", encode(frame), HEADERS)
        reply = decode(connection.getresponse().read())
        connection.close()
        assert (reply.kind, reply.request_id) == (ERROR, b"0123456789abcdef")

    def test_an_oversized_frame_is_refused_before_it_is_sent(self, server, client):
        limit = client.hello(PATIENT_S).max_frame_bytes
        assert limit < 2**21  # what MobileNetV2 can need, not what a frame could hold
        host, port = parse_address(server.address)
        connection = http.client.HTTPConnection(host, port, timeout=PATIENT_S)
        connection.putrequest("POST", "/infer")
        connection.putheader("Authorization", HEADERS["Authorization"])
        connection.putheader("Content-Length", str(10**12))
        connection.endheaders()
        connection.send(bytes(1000))
        response = connection.getresponse()
        assert response.status == 413
        assert "at most" in json.loads(response.read())["detail"]
        connection.close()

    def test_an_oversized_frame_of_unknown_length_is_refused(self, server):
        host, port = parse_address(server.address)
        connection = http.client.HTTPConnection(host, port, timeout=PATIENT_S)
        chunks = (bytes(2**18) for _ in range(16))
        connection.request("POST", "/infer", chunks, HEADERS, encode_chunked=True)
        assert connection.getresponse().status == 413
        connection.close()


def test_metrics_count_what_was_answered(server, client, model, tasks):
    infer(client, encode(frame_of(model, tasks[0])))
    port = re.search(r"127\.0\.0\.1:(\d+)/metrics", server.ready)[1]

    def total(name, *labels):
        """Of all lines of a metric that have these labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as reply:
            lines = reply.read().decode().splitlines()
        found = [x for x in lines if x.startswith(name) and all(label in x for label in labels)]
        return sum(float(line.rpartition(" ")[2]) for line in found)

    # Ray reports every few seconds, and the two not at once.
    wait_until(lambda: total("ray_mec_requests", 'outcome="ok"') and total("ray_mec_server_ms_sum"))
    assert total("ray_mec_requests", 'outcome="ok"') >= 1
    assert total("ray_mec_server_ms_bucket", 'le="+Inf"') >= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--devices", "3"], "was trained for 2 devices, not for 3"),
        (["--model", "resnet50"], "was trained for 'mobilenet_v2', not for 'resnet50'"),
    ],
)
def test_a_checkpoint_for_something_else_is_refused(checkpoint, capsys, arguments, message):
    assert main(["server", "--port", "0", "--checkpoint", str(checkpoint), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1

"""The real server, a process of its own, with MobileNetV2 and a scheduler for two devices."""

from __future__ import annotations

import dataclasses
import http.client
import json
import math
import os
import random
import re
import select
import signal
import socket
import subprocess
import threading
import time
import urllib.request

import pytest
import torch
from server_process import (
    RLLIB_MEC,
    CuttableLink,
    ServerProcess,
    assert_all_right,
    run_devices,
    wait_until,
)

from rllib_mec.cli.mec import main
from rllib_mec.dnn import build_model
from rllib_mec.errors import MecError
from rllib_mec.testbed.access import Access
from rllib_mec.testbed.client import (
    FRAME_TYPE,
    ServerBusy,
    ServerClient,
    ServerLost,
    ServerRefused,
    parse_address,
)
from rllib_mec.testbed.decisions import Fixed, Scheduled
from rllib_mec.testbed.device import Device, load_from
from rllib_mec.testbed.frames import ERROR, INFER, RESULT, Frame, decode, encode
from rllib_mec.testbed.split_model import task_input
from rllib_mec.testbed.tensors import result_leaves, to_blobs

pytestmark = pytest.mark.slow

PATIENT_S = 60.0
LATE = 5  # the tail is one linear layer: requests cost the protocol rather than the DNN
NUM_TASKS = 20


@pytest.fixture(scope="module")
def checkpoint(ray_session, tmp_path_factory):
    """A policy that was initialised, not trained."""
    from rllib_mec.algorithms.emh_ppo import EMHPPOConfig

    scenario = {"num_devices": 2, "dnn": "mobilenet_v2", "max_window": 3}
    config = (
        EMHPPOConfig()
        .environment("mec_task_window_v0", env_config=scenario)
        .env_runners(num_envs_per_env_runner=2)
        .debugging(seed=0)
    )
    algorithm = config.build_algo()
    path = algorithm.save_to_path(tmp_path_factory.mktemp("policy") / "checkpoint")
    algorithm.stop()
    return path


TOKEN = "0123456789abcdef" * 2
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The server's weights, its token, and its rows."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "token").write_text(TOKEN)
    save_weights(folder / "weights.pt", seed=0)
    return folder


def save_weights(path, seed):
    torch.manual_seed(seed)
    torch.save(build_model("mobilenet_v2").state_dict(), path)


@pytest.fixture(scope="module")
def server(checkpoint, files, server_environment):
    arguments = ["--weights", str(files / "weights.pt"), "--token-file", str(files / "token")]
    arguments += ["--csv", str(files / "rows.csv"), "--max-queue", "8", "--lease-s", "600"]
    server = ServerProcess([*arguments, "--checkpoint", checkpoint], server_environment)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def model(server, files):
    return loaded(server, files)


def loaded(server, files):
    weights = files / "weights.pt"
    return load_from(
        server.address, weights=weights, access=Access("", TOKEN), timeout_s=PATIENT_S
    )[0]


@pytest.fixture(scope="module")
def tasks(model):
    return [task_input(model.input_shape, 0, i) for i in range(NUM_TASKS)]


@pytest.fixture(scope="module")
def whole(model, tasks):
    return [model.whole(x) for x in tasks]


@pytest.fixture
def client(server):
    client = client_of(server)
    yield client
    client.close()


def client_of(server, name=""):
    return ServerClient(server.address, access=Access(name, TOKEN))


def device_of(model, address, decider=None, name="md_0", **options):
    options = {"timeout_s": PATIENT_S, **options}
    access = Access(name, TOKEN)
    return Device(model, [address], decider or Fixed(LATE), name=name, access=access, **options)


def infer(client, data):
    return client.request("POST", "/infer", data, FRAME_TYPE, PATIENT_S, 2**20)


def frame_of(model, x, codec="float32", point=LATE):
    blobs = to_blobs(model.head(point, x), codec)
    return Frame(INFER, os.urandom(16), model.fingerprint, point, codec, blobs)


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


def fuzzed(rng, valid):
    """Bytes of one of five kinds that are no frame of this server."""
    kind = rng.randrange(5)
    if kind == 0:
        return rng.randbytes(rng.randrange(200))
    if kind == 1:
        return valid[: rng.randrange(len(valid))]
    if kind == 2:
        return valid + rng.randbytes(rng.randrange(1, 2000))
    changed = bytearray(valid)
    for _ in range(rng.randrange(1, 5)):
        changed[rng.randrange(64 if kind == 3 else len(changed))] ^= rng.randrange(1, 256)
    return bytes(changed)


def test_thousands_of_fuzzed_frames_leave_it_up_with_bounded_memory(
    server, client, model, tasks, whole
):
    valid = encode(frame_of(model, tasks[0]))
    host, port = parse_address(server.address)
    statuses = []

    def fuzz(seed, count):
        rng = random.Random(seed)
        connection = http.client.HTTPConnection(host, port, timeout=PATIENT_S)
        for _ in range(count):
            connection.request("POST", "/infer", fuzzed(rng, valid), HEADERS)
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
        connection.close()

    def fuzz_from_four_connections(count):
        threads = [threading.Thread(target=fuzz, args=(count + i, count // 4)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    fuzz_from_four_connections(1000)
    before = server.resident_bytes()
    fuzz_from_four_connections(3000)
    assert len(statuses) == 4000
    assert set(statuses) <= {400, 409, 413, 503}
    assert statuses.count(400) > 3600
    assert server.resident_bytes() < before + 64 * 2**20
    reply = decode(infer(client, valid))
    assert torch.equal(result_leaves(reply, [whole[0]])[0], whole[0])


A = {"device": "a", "identity": "0" * 16}


class TestScheduler:
    """The scheduling deployment with a real policy."""

    def scheduled(self, server, model, name, **options):
        client = client_of(server, name)
        return Scheduled(client, name, model, **{"timeout_s": PATIENT_S, **options})

    def test_devices_play_the_windows_of_the_policy(self, server, checkpoint, model, tasks, whole):
        from rllib_mec.policies import load_policy

        devices = [
            device_of(model, server.address, self.scheduled(server, model, name), name=name)
            for name in ("a", "b")
        ]
        for device in devices:
            device.connect()
        runs = run_devices(devices, tasks)
        for device in devices:
            device.close()
        policy = load_policy(checkpoint)
        state = [[NUM_TASKS / 50, NUM_TASKS / 50, 0.5, 0.5]]
        first = policy.decide(torch.tensor(state).numpy())
        for n, (records, results) in enumerate(runs):
            assert_all_right(whole, records, results)
            assert not any(record.fell_back for record in records)
            window = [record for record in records if record.window == 0]
            assert len(window) == first["window"][0, n] + 1
            assert [r.point for r in window] == first["partition"][0, n, : len(window)].tolist()
            assert [r.channel for r in window] == first["channel"][0, n, : len(window)].tolist()

    def test_a_device_killed_in_a_window_does_not_stop_the_others(
        self, server, server_environment, files, model, tasks, whole
    ):
        command = ["device", "--server", server.address, "--name", "victim", "--tasks", "100000"]
        command += ["--weights", str(files / "weights.pt"), "--token-file", str(files / "token")]
        victim = subprocess.Popen(
            [*RLLIB_MEC, *command, "--timeout-ms", "60000"],
            env=server_environment,
            stdout=subprocess.DEVNULL,
        )
        health = client_of(server)
        seen = lambda: health.get_json("/schedule/health", PATIENT_S)  # noqa: E731
        wait_until(lambda: "victim" in seen()["devices"])
        windows = seen()["windows"]
        wait_until(lambda: seen()["windows"] > windows)
        decider = self.scheduled(server, model, "survivor")
        device = device_of(model, server.address, decider, name="survivor")
        device.connect()

        def kill_at_the_third(record, result):
            results.append(result)
            if record.task == 2:
                victim.send_signal(signal.SIGKILL)
                victim.wait()

        results = []
        records = device.run(tasks, len(tasks), kill_at_the_third)
        device.close()
        assert_all_right(whole, records, results)
        assert not any(record.fell_back for record in records)
        # Its place is another's, as it missed too much.
        decider = self.scheduled(server, model, "another")
        decider.register()
        decider.close()

    def test_one_device_too_many_is_refused(self, server, model):
        deciders = [self.scheduled(server, model, name) for name in "abc"]
        deciders[0].register()
        deciders[1].register()
        with pytest.raises(Exception, match="2 devices and has no place for 'c'"):
            deciders[2].register()
        for decider in deciders:
            decider.close()

    @pytest.mark.parametrize(
        ("route", "body", "status"),
        [
            ("register", {**A, "model": "x", "heads": [], "distance_m": 1.0}, 409),
            ("register", A, 422),
            ("register", {**A, "model": "x", "heads": [], "distance_m": math.nan}, 422),
            ("register", {**A, "model": "x", "heads": [], "distance_m": math.inf}, 422),
            ("register", {**A, "model": "x", "heads": [], "distance_m": -1.0}, 422),
            ("register", {**A, "model": "x" * 300, "heads": [], "distance_m": 1.0}, 422),
            ("register", {**A, "model": "x", "heads": ["0"] * 10_001, "distance_m": 1.0}, 422),
            ("window", {**A, "sequence": 1, "remaining": 1, "distance_m": 1.0}, 404),
            ("window", {**A, "sequence": "x", "remaining": 1, "distance_m": 1.0}, 422),
            ("window", {**A, "sequence": 2**62, "remaining": 1, "distance_m": 1.0}, 422),
            ("window", {**A, "sequence": 1.5, "remaining": 1, "distance_m": 1.0}, 422),
            ("window", {**A, "sequence": 1, "remaining": 0, "distance_m": 1.0}, 422),
            ("leave", [], 422),
            ("leave", {**A, "more": 1}, 422),
            ("leave", {**A, "device": "x" * 65}, 422),
            ("leave", {**A, "device": ""}, 422),
            ("leave", {**A, "device": "a\nb"}, 422),
            ("leave", {**A, "identity": "?"}, 422),
            ("leave", {**A, "device": "x" * 2**21}, 413),
        ],
    )
    def test_bad_requests_are_refused(self, client, route, body, status):
        with pytest.raises(ServerRefused) as caught:
            client.post_json(f"/schedule/{route}", body, PATIENT_S)
        assert caught.value.status == status
        assert len(str(caught.value)) < 200

    def test_a_name_is_one_devices(self, server, model):
        first, second = (self.scheduled(server, model, "a") for _ in range(2))
        first.register()
        first.register()  # its own
        with pytest.raises(MecError, match="another device has the name 'a'"):
            second.register()
        second.close()  # which frees nobody's place
        assert "a" in client_of(server).get_json("/schedule/health", PATIENT_S)["devices"]
        first.close()


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


def test_an_overloaded_server_pushes_back_and_every_task_is_answered_right(
    server, model, tasks, whole
):
    """Offered ten times what it can answer; 8 may wait in the replica, 8 before it."""
    devices = [device_of(model, server.address, Fixed(0), name=f"md_{i}") for i in range(24)]
    answered, refused = [], []
    stop = threading.Event()
    data = encode(frame_of(model, tasks[0], point=0))

    def flood():
        client = client_of(server, "flood")
        while not stop.is_set():
            try:
                infer(client, data)
                answered.append(None)
            except ServerBusy:
                refused.append(None)
        client.close()

    def is_tenfold():
        return len(refused) >= 9 * max(1, len(answered))

    floods = [threading.Thread(target=flood) for _ in range(20)]
    for thread in floods:
        thread.start()
    try:
        wait_until(is_tenfold)
        runs = run_devices(devices, tasks[:2])
        wait_until(is_tenfold)
    finally:
        stop.set()
        for thread in floods:
            thread.join()
    for records, results in runs:
        assert_all_right(whole[:2], records, results)
    assert refused
    # 24 devices do not all fit into a queue of 8, but none waits behind the flood's.
    assert not all(record.fell_back for records, _ in runs for record in records)
    reasons = {record.reason for records, _ in runs for record in records if record.fell_back}
    assert reasons <= {"the server: the server's queue is full", "the server is out of reach"}


def test_a_link_that_is_cut_for_a_while_costs_no_task(server, model, tasks, whole):
    link = CuttableLink(server.address)
    results, notes = [], []
    longest_s = 0.2
    device = device_of(
        model, link.address, timeout_s=3.0, backoff_s=(0.1, longest_s), note=notes.append
    )

    def source():
        for i, x in enumerate(tasks):
            if i == 5:
                link.up.clear()
            if i == 10:
                link.up.set()
                time.sleep(2 * longest_s)  # until the device tries again
            yield x

    with device:
        records = device.run(source(), NUM_TASKS, lambda record, result: results.append(result))
    link.close()
    assert_all_right(whole, records, results)
    assert all(record.fell_back for record in records[5:10])
    assert "did not answer in time" in records[5].reason
    assert not records[-1].fell_back
    assert "is back" in notes[-1]


def test_new_weights_are_served_without_a_restart_and_old_ones_still(server, files, model, tasks):
    client = client_of(server)

    def health():
        try:
            return client.get_json("/health", 5.0)
        except (ServerLost, ServerBusy, ServerRefused):  # while there is no replica
            return {"version": None, "served": None}

    save_weights(files / "weights.pt", seed=1)
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: health()["version"] == 2)
    newer = loaded(server, files)
    assert newer.fingerprint != model.fingerprint
    save_weights(files / "weights.pt", seed=0)  # which nobody asked it to load

    def assert_that_both_are_answered():
        for each in (newer, model):
            expected = each.whole(tasks[0])
            reply = decode(infer(client, encode(frame_of(each, tasks[0]))))
            assert torch.equal(result_leaves(reply, [expected])[0], expected)

    assert_that_both_are_answered()
    with device_of(model, server.address) as device:  # which has the old ones
        assert not any(record.fell_back for record in device.run(tasks, 2))
    assert server.kill_processes("ray::ServeReplica:tail") == 1
    wait_until(lambda: health()["served"] == 0)
    assert health()["version"] == 2
    assert_that_both_are_answered()
    client.close()


def test_a_server_that_is_killed_and_started_again_costs_no_task(
    server, files, model, tasks, whole
):
    results, notes = [], []
    again = ["--weights", str(files / "weights.pt"), "--token-file", str(files / "token")]
    again += ["--csv", str(files / "rows.csv")]
    device = device_of(
        model, server.address, timeout_s=5.0, backoff_s=(0.0, 0.0), note=notes.append
    )
    device.connect()

    def source():
        for i in range(NUM_TASKS):
            if i == 5:
                server.kill()
            if i == 10:
                server.start(["--model", "mobilenet_v2", *again])  # the same weights and points
            yield tasks[i]

    records = device.run(source(), NUM_TASKS, lambda record, result: results.append(result))
    device.close()
    assert_all_right(whole, records, results)
    assert [record.task for record in records if record.fell_back][:5] == [5, 6, 7, 8, 9]
    assert not any(record.fell_back for record in records[11:])
    assert "going on locally" in notes[-2]
    assert "is back" in notes[-1]


def test_a_server_that_is_told_to_end_answers_what_it_has(server, files, model, tasks):
    data = frame_of(model, tasks[0], point=0)
    answered, lost = set(), []
    before = len((files / "rows.csv").read_text().splitlines())

    def ask():
        client = client_of(server)
        while True:
            frame = dataclasses.replace(data, request_id=os.urandom(16))
            try:
                infer(client, encode(frame))
                answered.add(frame.request_id.hex())
            except ServerBusy:
                return  # it said that it ends
            except Exception as error:
                lost.append(error)
                return

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(answered) >= 8)
    server.process.terminate()
    for thread in threads:
        thread.join()
    server.process.wait(60)
    rows = (files / "rows.csv").read_text().splitlines()[before:]
    assert lost == []
    assert {row.split(",")[1] for row in rows} == answered
    assert server.process.returncode == 0

"""The real server under attack and overload, killed, told to load other weights, and to end."""

from __future__ import annotations

import dataclasses
import http.client
import os
import random
import signal
import threading
import time

import pytest
import torch
from real_server import (
    HEADERS,
    NUM_TASKS,
    PATIENT_S,
    client_of,
    device_of,
    frame_of,
    infer,
    loaded,
    save_weights,
)
from server_process import (
    CuttableLink,
    assert_all_right,
    run_devices,
    wait_until,
)

from rllib_mec.testbed.client import (
    ServerBusy,
    ServerLost,
    ServerRefused,
    parse_address,
)
from rllib_mec.testbed.decisions import Fixed
from rllib_mec.testbed.frames import decode, encode
from rllib_mec.testbed.tensors import result_leaves

pytestmark = pytest.mark.slow


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

    before = health()["version"]
    save_weights(files / "weights.pt", seed=1)
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: health()["version"] == before + 1)
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
    assert health()["version"] == before + 1
    assert_that_both_are_answered()
    server.process.send_signal(signal.SIGHUP)  # as it was before this test
    wait_until(lambda: health()["version"] == before + 2)
    client.close()


def test_a_server_that_is_killed_and_started_again_costs_no_task(server, model, tasks, whole):
    results, notes = [], []
    device = device_of(
        model, server.address, timeout_s=5.0, backoff_s=(0.0, 0.0), note=notes.append
    )
    device.connect()

    def source():
        for i in range(NUM_TASKS):
            if i == 5:
                server.kill()
            if i == 10:
                server.start()  # the same weights and points
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

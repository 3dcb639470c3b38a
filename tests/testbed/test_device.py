"""A device against servers that go wrong: every task ends once, with the right result."""

from __future__ import annotations

import dataclasses
import time
import types

import pytest
import tiny_model
import torch
from fake_server import FAULTS, answers_too_late, drips, fails, fake_server, hangs_up, hello_of

from rllib_mec.errors import MecError
from rllib_mec.testbed.client import ServerClient
from rllib_mec.testbed.decisions import Fixed, Scheduled, TaskDecision
from rllib_mec.testbed.device import Device, load_from
from rllib_mec.testbed.link import Link
from rllib_mec.testbed.tensors import digest

SHORT_S, PATIENT_S = 0.3, 20.0
AT_ONCE = (0.0, 0.0)  # a server that failed is tried again with the next task
SKIP = 1  # a point that sends two tensors


@pytest.fixture
def server(tiny):
    with fake_server(tiny) as server:
        yield server


@pytest.fixture
def results():
    return []


def device_of(tiny, server, decider=None, **options):
    options = {"timeout_s": PATIENT_S, **options}
    return Device(tiny, [server.address], decider or Fixed(SKIP), **options)


def run(device, inputs, results):
    """Run all inputs as tasks; returns the records, and the results go into ``results``."""
    with device:
        return device.run(inputs, len(inputs), lambda record, result: results.append(result))


def assert_all_right(tiny, inputs, records, results):
    assert [record.task for record in records] == list(range(len(inputs)))
    assert len(results) == len(inputs)
    for x, record, result in zip(inputs, records, results, strict=True):
        assert torch.equal(result, tiny.whole(x))
        assert record.result_sha256 == digest([tiny.whole(x)])


@pytest.mark.parametrize("codec", ["float32", "raw"])
def test_exact_codecs_give_the_whole_result_at_every_point(tiny, server, inputs, results, codec):
    for point in range(tiny.full_local):
        results.clear()
        records = run(device_of(tiny, server, Fixed(point, codec)), inputs[:4], results)
        assert_all_right(tiny, inputs[:4], records, results)
        assert not any(record.fell_back for record in records)
    assert server.answered == 4 * tiny.full_local


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"exact": False}, "batches float32 requests: last bits may differ"),
        ({"probe_digest": "other"}, "computes other last bits than this machine"),
    ],
)
def test_it_is_noted_where_results_can_differ(tiny, server, change, words):
    notes = []
    with device_of(tiny, server, note=notes.append):
        assert notes == []
    server.hello = dataclasses.replace(server.hello, **change)
    with device_of(tiny, server, note=notes.append):
        assert len(notes) == 1 and words in notes[0]


@pytest.mark.parametrize("codec", ["float16", "int8", "int4"])
def test_other_codecs_give_what_their_loss_leaves(tiny, server, inputs, results, codec):
    from rllib_mec.dnn.codecs import CODECS

    run(device_of(tiny, server, Fixed(SKIP, codec)), inputs[:4], results)
    for x, result in zip(inputs, results, strict=False):
        coded = {
            name: CODECS[codec].decode(CODECS[codec].encode(tensor), tuple(tensor.shape))
            for name, tensor in tiny.head(SKIP, x).items()
        }
        assert torch.equal(result, tiny.tail(SKIP, coded))
        assert not torch.equal(result, tiny.whole(x))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_server_that_goes_wrong_costs_no_task(tiny, server, inputs, results, fault):
    notes = []
    server.misbehave = fault
    timeout_s = SHORT_S if fault in (answers_too_late, drips) else PATIENT_S
    device = device_of(tiny, server, timeout_s=timeout_s, note=notes.append)
    records = run(device, inputs[:5], results)
    assert_all_right(tiny, inputs[:5], records, results)
    assert all(record.fell_back and record.reason for record in records)
    assert len(notes) == 1
    assert "going on locally" in notes[0]
    assert "\n" not in notes[0]


@pytest.mark.parametrize("fault", [hangs_up, fails], ids=lambda fault: fault.__name__)
def test_a_server_that_recovers_is_used_again(tiny, server, inputs, results, fault):
    notes = []

    def source():
        for i, x in enumerate(inputs):
            server.misbehave = fault if i == 3 else None
            yield x

    device = device_of(tiny, server, backoff_s=AT_ONCE, note=notes.append)
    with device:
        records = device.run(source(), 20, lambda record, result: results.append(result))
    assert_all_right(tiny, inputs[:20], records, results)
    assert [record.task for record in records if record.fell_back] == [3]
    assert ["going on locally" in notes[0], "is back" in notes[1], len(notes)] == [True, True, 2]


def test_a_failed_server_is_left_alone_for_a_while(tiny, server, inputs, results):
    server.misbehave = fails
    records = run(device_of(tiny, server, backoff_s=(60.0, 60.0)), inputs[:50], results)
    assert_all_right(tiny, inputs[:50], records, results)
    assert len(server.request_ids) == 1
    assert records[-1].reason == "the server is out of reach"


def test_a_busy_server_is_asked_again_with_the_same_id(tiny, server, inputs, results):
    calls = []

    def busy_twice(handler, reply):
        calls.append(None)
        if len(calls) % 3:
            handler.reply(503, b"busy")
        else:
            handler.reply(200, reply)

    server.misbehave = busy_twice
    records = run(device_of(tiny, server), inputs[:4], results)
    assert_all_right(tiny, inputs[:4], records, results)
    assert [record.attempts for record in records] == [3] * 4
    assert not any(record.fell_back for record in records)
    assert len(set(server.request_ids)) == 4


def test_a_server_that_stays_busy_leaves_the_task_to_the_device(tiny, server, inputs, results):
    server.misbehave = lambda handler, reply: handler.reply(503, b"busy")
    records = run(device_of(tiny, server), inputs[:2], results)
    assert_all_right(tiny, inputs[:2], records, results)
    assert records[0].reason == "the server: the server's queue is full"


def test_every_task_has_an_id_of_its_own(tiny, server, inputs, results):
    run(device_of(tiny, server), inputs[:10], results)
    run(device_of(tiny, server), inputs[:10], results)
    assert len(set(server.request_ids)) == 20


def test_a_connection_that_the_server_closed_meanwhile_is_opened_again(
    tiny, server, inputs, results
):
    def answers_and_hangs_up(handler, reply):
        handler.reply(200, reply)
        handler.close_connection = True  # without saying so in its reply

    server.misbehave = answers_and_hangs_up
    records = run(device_of(tiny, server), inputs[:10], results)
    assert_all_right(tiny, inputs[:10], records, results)
    assert not any(record.fell_back for record in records)


def test_a_server_that_closes_every_connection_is_asked_on_new_ones(tiny, server, inputs, results):
    def closes(handler, reply):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(reply)))
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(reply[:50])
        handler.wfile.flush()
        time.sleep(0.01)  # the rest comes when the client has seen the header
        handler.wfile.write(reply[50:])

    server.misbehave = closes
    records = run(device_of(tiny, server), inputs[:5], results)
    assert_all_right(tiny, inputs[:5], records, results)
    assert not any(record.fell_back for record in records)


def test_a_busy_server_is_asked_when_it_said(tiny, server, inputs, results, monkeypatch):
    slept = []
    monkeypatch.setattr("rllib_mec.testbed.remote.time.sleep", slept.append)

    def busy_once(handler, reply):
        if len(server.request_ids) > 1:
            return handler.reply(200, reply)
        handler.send_response(503)
        for name, value in (
            ("Content-Length", "0"),
            ("Retry-After", "1"),
            ("Retry-After-Ms", "70"),
        ):
            handler.send_header(name, value)
        return handler.end_headers()

    server.misbehave = busy_once
    [record] = run(device_of(tiny, server), inputs[:1], results)
    assert (slept, record.attempts, record.fell_back) == ([0.07], 2, False)


def test_a_server_with_newer_weights_still_takes_tasks_of_older_ones(tiny, server, inputs, results):
    notes = []
    server.hello = dataclasses.replace(
        hello_of(tiny), fingerprint=b"newer...", older=(tiny.fingerprint,)
    )
    records = run(device_of(tiny, server, note=notes.append), inputs[:3], results)
    assert not any(record.fell_back for record in records)
    assert "has newer weights: start anew" in notes[0]


def test_the_cause_that_a_failing_server_gives_is_in_the_record(tiny, server, inputs, results):
    server.misbehave = lambda handler, reply: handler.reply(500, b'{"detail": "out of memory"}')
    records = run(device_of(tiny, server), inputs[:1], results)
    assert records[0].reason == "the server: it failed with HTTP status 500: out of memory"


def test_a_server_that_comes_back_with_other_weights_gets_no_tasks(tiny, server, inputs, results):
    notes = []
    server.misbehave = fails

    def source():
        for i, x in enumerate(inputs[:10]):
            if i == 1:
                server.hello = dataclasses.replace(hello_of(tiny), fingerprint=bytes(8))
                server.misbehave = None
            yield x

    device = device_of(tiny, server, backoff_s=AT_ONCE, note=notes.append)
    with device:
        records = device.run(source(), 10, lambda record, result: results.append(result))
    assert_all_right(tiny, inputs[:10], records, results)
    assert server.answered == 0
    assert "it has other weights" in records[-1].reason


def test_a_tensor_that_the_codec_cannot_code_stays_here(tiny, server, results):
    x = torch.full((1, *tiny.input_shape), float("nan"))
    records = run(device_of(tiny, server, Fixed(0, "int8")), [x], results)
    assert "cannot code NaN" in records[0].reason
    assert results[0].isnan().all()


def test_local_tasks_send_nothing(tiny, server, inputs, results):
    for decider in (Fixed(None), Fixed(tiny.full_local)):
        records = run(device_of(tiny, server, decider), inputs[:3], results)
        assert [r.bytes_sent for r in records] == [0, 0, 0]
        assert not any(record.fell_back for record in records)
    assert server.request_ids == []


def test_a_record_adds_up(tiny, server, inputs, results):
    device = device_of(tiny, server, Fixed(SKIP, power_w=0.5), name="md_7", energy_per_mmac_j=2.0)
    record = run(device, inputs[:1], results)[0]
    parts = record.local_ms + record.transmission_ms + record.server_ms
    assert record.total_ms == pytest.approx(parts)
    assert record.server_ms == pytest.approx(0.001)
    expected = 2.0 * tiny.local_mmacs(SKIP) + 0.5 * record.transmission_ms / 1e3
    assert record.energy_j == pytest.approx(expected)
    assert (record.device, record.point, record.window) == ("md_7", SKIP, 0)
    elements = sum(spec.example().numel() for spec in tiny.specs(SKIP).values())
    assert 4 * elements < record.bytes_sent < 4 * elements + 200


def test_a_task_that_falls_back_costs_the_energy_of_all_its_macs(tiny, server, inputs, results):
    server.misbehave = fails
    device = device_of(tiny, server, Fixed(SKIP, power_w=0.0), energy_per_mmac_j=2.0)
    record = run(device, inputs[:1], results)[0]
    assert record.energy_j == pytest.approx(2.0 * tiny.local_mmacs(tiny.full_local))


def test_verifying_finds_what_a_codec_lost(tiny, server, inputs, results):
    exact = run(device_of(tiny, server, Fixed(SKIP), verify=True), inputs[:3], results)
    assert [record.max_abs_error for record in exact] == [0.0, 0.0, 0.0]
    results.clear()
    lossy = run(device_of(tiny, server, Fixed(SKIP, "int4"), verify=True), inputs[:3], results)
    gaps = [float((r - tiny.whole(x)).abs().max()) for x, r in zip(inputs, results, strict=False)]
    assert [record.max_abs_error for record in lossy] == pytest.approx(gaps, rel=1e-4)
    assert min(gaps) > 0


def test_decisions_choose_among_several_servers(tiny, server, inputs, results):
    class InTurn:
        def next_window(self, remaining):
            return [TaskDecision(SKIP, server=i) for i in range(min(remaining, 4))]

        def close(self):
            pass

    with fake_server(tiny) as other:
        device = Device(tiny, [server.address, other.address], InTurn(), timeout_s=PATIENT_S)
        records = run(device, inputs[:8], results)
        assert (server.answered, other.answered) == (4, 4)
    assert_all_right(tiny, inputs[:8], records, results)
    assert [record.server for record in records] == [0, 1, 0, 1] * 2
    assert [record.window for record in records] == [0] * 4 + [1] * 4


def test_the_link_is_in_the_way(tiny, server, inputs, results):
    slept = []
    link = Link(1.0, sleep=slept.append, clock=lambda: sum(slept))
    record = run(device_of(tiny, server, link=link), inputs[:1], results)[0]
    assert sum(slept) > link.seconds(record.bytes_sent)  # and the headers


@pytest.mark.parametrize("options", [{"slowdown": 0.5}, {"timeout_s": 0.0}, {"slowdown": 1e400}])
def test_bad_numbers_are_refused(tiny, server, options):
    with pytest.raises(MecError, match="must be a number of at least"):
        device_of(tiny, server, **options)


def test_decisions_out_of_range_are_refused(tiny, server, inputs):
    for decision in (Fixed(tiny.num_points), Fixed(0, "int5")):
        with device_of(tiny, server, decision) as device, pytest.raises(MecError, match="range"):
            device.run(inputs, 1)


def test_too_few_inputs_are_refused(tiny, server, inputs):
    with device_of(tiny, server) as device, pytest.raises(MecError, match="3 tasks, but only 2"):
        device.run(inputs[:2], 3)


class TestScheduled:
    """The device's side of the scheduler."""

    @pytest.fixture
    def scheduled(self, tiny, server):
        server.schedule = {
            "/schedule/register": lambda request: (200, {"deadline_ms": 10, "codec": "int8"}),
            "/schedule/leave": lambda request: (200, {}),
        }
        client = ServerClient(server.address)
        return Scheduled(client, "a", tiny, timeout_s=PATIENT_S)

    def decide(self, server, answer):
        asked = []

        def window(request):
            asked.append(request)
            return answer(request) if callable(answer) else answer

        server.schedule["/schedule/window"] = window
        return asked

    def test_windows_are_played_as_decided(self, tiny, server, scheduled, inputs, results):
        task = {"point": SKIP, "server": 0, "channel": 1, "power_w": 0.1}
        answer = 200, {"window": 0, "tasks": [task] * 4, "absent": []}
        asked = self.decide(server, answer)
        records = run(device_of(tiny, server, scheduled), inputs[:6], results)
        assert [request["remaining"] for request in asked] == [6, 2]
        assert [request["sequence"] for request in asked] == [1, 2]
        assert [(r.point, r.codec, r.channel, r.power_w) for r in records] == [
            (SKIP, "int8", 1, 0.1)
        ] * 6
        assert [record.waiting_ms > 0 for record in records] == [True, *[False] * 3, True, False]

    @pytest.mark.parametrize(
        "answer",
        [
            (500, {}),
            (503, {}),
            (400, {"detail": "no"}),
            (200, []),
            (200, {"tasks": []}),
            (200, {"tasks": [{"point": "x"}]}),
        ],
    )
    def test_without_a_decision_tasks_stay_local(
        self, tiny, server, scheduled, inputs, results, answer
    ):
        self.decide(server, answer)
        records = run(device_of(tiny, server, scheduled), inputs[:5], results)
        assert_all_right(tiny, inputs[:5], records, results)
        assert all(record.fell_back for record in records)
        assert records[0].reason.startswith("no decision: ")

    def test_a_point_that_does_not_exist_is_no_decision(
        self, tiny, server, scheduled, inputs, results
    ):
        task = {"point": tiny.num_points, "server": 0, "channel": 0, "power_w": 0.1}
        self.decide(server, (200, {"tasks": [task]}))
        records = run(device_of(tiny, server, scheduled), inputs[:3], results)
        assert_all_right(tiny, inputs[:3], records, results)
        assert all(record.fell_back for record in records)

    def test_a_scheduler_that_forgot_the_device_hears_its_name_again(
        self, tiny, server, scheduled, inputs, results
    ):
        registrations = []

        def register(request):
            registrations.append(request["device"])
            return 200, {"deadline_ms": 10, "codec": "float32"}

        def window(request):
            if len(registrations) < 2:
                return 404, {"detail": "register first"}
            task = {"point": SKIP, "server": 0, "channel": 0, "power_w": 0.1}
            return 200, {"tasks": [task] * 5}

        server.schedule["/schedule/register"] = register
        server.schedule["/schedule/window"] = window
        records = run(device_of(tiny, server, scheduled), inputs[:5], results)
        assert registrations == ["a", "a"]
        assert not any(record.fell_back for record in records)

    def test_a_scheduler_without_a_place_refuses_the_device(self, tiny, server, scheduled):
        server.schedule["/schedule/register"] = lambda request: (409, {"detail": "no place"})
        with pytest.raises(MecError, match="no place"):
            device_of(tiny, server, scheduled).connect()


class TestLoading:
    """Loading the DNN that a server serves."""

    def test_the_servers_points_are_taken(self, tiny, server):
        model, hello = load_from(server.address, model=tiny_model.PATH)
        assert model.fingerprint == tiny.fingerprint == hello.fingerprint
        assert model.points[SKIP].operators == tiny.points[SKIP].operators

    def test_code_that_only_the_server_names_is_not_run(self, server, monkeypatch):
        ran = []
        monkeypatch.setattr(
            "rllib_mec.testbed.device.SplitModel.load", lambda *a, **k: ran.append(a)
        )
        for name in (tiny_model.PATH, "os:system", "my_dnn"):
            server.hello = dataclasses.replace(server.hello, model=name)
            with pytest.raises(
                MecError, match=f"serves '{name}', which is code of this machine that"
            ):
                load_from(server.address)
            with pytest.raises(MecError, match="has no DNN 'resnet18'"):
                load_from(server.address, model="resnet18")
        assert ran == []

    @pytest.mark.parametrize(
        "change",
        [
            {"input_shape": [3, 10**6, 10**6]}, {"input_shape": []}, {"input_shape": [0]},
            {"heads": []}, {"heads": ["0"] * 10_001}, {"heads": ["f" * 20_000]}, {"heads": ["-1"]},
            {"codec": "int9"}, {"model": "x" * 300}, {"model": None}, {"max_frame_bytes": 2**40},
            {"older": 3}, {"fingerprint": "xyz"},
        ],
    )  # fmt: skip
    def test_a_hello_that_could_harm_is_none(self, tiny, server, change):
        values = {**hello_of(tiny).to_json(), **change}
        server.hello = types.SimpleNamespace(to_json=lambda: values)
        with pytest.raises(MecError, match="its hello is not one of a MEC server"):
            load_from(server.address, model=tiny_model.PATH)

    def test_a_server_that_refuses_is_not_asked_again(self, server):
        server.hello_status = 401
        with pytest.raises(MecError, match="got no token"):
            load_from(server.address, wait_s=60.0)

    def test_another_model_is_refused(self, server):
        with pytest.raises(
            MecError, match=r"has no DNN 'resnet50': it serves 'tiny_model:TinyNet'"
        ):
            load_from(server.address, model="resnet50")

    def test_other_weights_are_refused(self, server):
        with pytest.raises(MecError, match="other weights: give both sides the same"):
            load_from(server.address, model=tiny_model.PATH, seed=3)

    def test_a_server_out_of_reach_is_one_line(self):
        with pytest.raises(MecError, match=r"the server 127.0.0.1:1: it refuses connections"):
            load_from("127.0.0.1:1")

    @pytest.mark.parametrize("address", ["", "host", "host:", ":80", "host:x", "host:99999"])
    def test_an_address_that_is_none_is_refused(self, address):
        with pytest.raises(MecError, match="expected HOST:PORT"):
            load_from(address)

    def test_a_server_of_another_kind_is_refused(self, server, monkeypatch):
        class Other:
            def to_json(self):
                return {"hello": "world"}

        server.hello = Other()
        with pytest.raises(MecError, match="not one of a MEC server"):
            load_from(server.address, model=tiny_model.PATH)

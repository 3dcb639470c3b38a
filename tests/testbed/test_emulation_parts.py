"""The emulation's parts: calibration, prediction, shaping and processes; no server is started."""

import dataclasses
import itertools
import sys
import time

import numpy as np
import pytest

from rllib_mec.dnn import CODECS, LatencyProfile, model_graph
from rllib_mec.errors import MecError
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import LocalOnly
from rllib_mec.testbed import shaping as shaping_module
from rllib_mec.testbed.calibration import Calibration, Probe
from rllib_mec.testbed.prediction import alone_ms, best_points, predict_fixed, predict_policy
from rllib_mec.testbed.processes import Child
from rllib_mec.testbed.shaping import Namespaces, shaping

DNN, DEVICE_MS, SERVER_MS, REQUEST_MS, GOODPUT_MBPS = "resnet18", 40.0, 10.0, 3.0, 40.0


@pytest.fixture(scope="module")
def profile():
    """12 ms over the operators by their MACs: what a DNN takes that runs all the time."""
    graph = model_graph(DNN)
    latency = tuple(12.0 * (o.macs + 1e5) for o in graph.operators)
    scale = sum(latency) / 12.0
    latency = tuple(value / scale for value in latency)
    return LatencyProfile(
        dnn=DNN,
        operators=tuple(operator.name for operator in graph.operators),
        latency_ms=latency,
        low_ms=latency,
        high_ms=latency,
        whole_ms=12.0,
        runs=1,
        warmup=0,
        input_shapes=((1, 3, 224, 224),),
        machine={},
    )


@pytest.fixture(scope="module")
def calibration(profile):
    table = Scenario(dnn=DNN, partition="operator", server_latency_ms=1.0).table
    at = dict(zip(profile.operators, profile.latency_ms, strict=True))

    def probe(index):
        point = table.point(index)
        head, tail = (
            sum(at[name] for name in names) / 12.0
            for names in (point.head_operators, point.tail_operators)
        )
        sent = point.bits(CODECS["int8"].bits) / (GOODPUT_MBPS * 1e3) + REQUEST_MS if tail else 0.0
        coding = 0.25 * sent if index == 0 else 0.0
        away = sent - coding + SERVER_MS * tail
        return Probe(point, DEVICE_MS * head + coding, away, SERVER_MS * tail)

    last = len(table) - 1
    return Calibration.solve(
        profile,
        "int8",
        local=probe(last),
        large=probe(0),
        small=probe(last - 1),
        bandwidth_mbps=50.0,
    )


@pytest.fixture(scope="module")
def scenario(calibration, tmp_path_factory):
    folder = tmp_path_factory.mktemp("profiles")
    return lambda num_devices: calibration.scenario(num_devices, folder)


def test_calibration_finds_the_numbers_that_made_the_probes(calibration):
    assert calibration.request_ms == pytest.approx(REQUEST_MS)
    assert calibration.goodput_mbps == pytest.approx(GOODPUT_MBPS)
    assert calibration.device.total_ms == pytest.approx(DEVICE_MS)
    assert calibration.server.total_ms == pytest.approx(SERVER_MS)


@pytest.mark.parametrize("small", [-2, 0], ids=["turned around by noise", "the same point"])
def test_probes_that_tell_no_rate_give_the_links_own(profile, small):
    points = Scenario(dnn=DNN, partition="operator", server_latency_ms=1.0).table.points
    found = Calibration.solve(
        profile,
        "int8",
        local=Probe(points[-1], DEVICE_MS, 0.0, 0.0),
        large=Probe(points[0], 1.0, 50.0, SERVER_MS),
        small=Probe(points[small], DEVICE_MS, 500.0, SERVER_MS),
        bandwidth_mbps=50.0,
    )
    assert found.goodput_mbps == pytest.approx(50.0)
    assert found.request_ms > 0


def test_a_device_alone_takes_head_link_request_and_tail(scenario):
    one = scenario(1)
    # The input: 3*224*224 bytes at 40 Mbit/s take 30.1 ms, then 3 ms and the whole DNN's 10 ms.
    assert alone_ms(one)[0] == pytest.approx(3 * 224 * 224 * 8 / 40e3 + 3.0 + 10.0)
    assert alone_ms(one)[-1] == pytest.approx(4 * 10.0)  # full local
    for point in (0, len(one.table) // 2, len(one.table) - 1):
        predicted = predict_fixed(one, [point], 7, power_w=0.02)
        expected = alone_ms(one)[point]
        assert predicted.mean_ms == pytest.approx(expected)
        assert predicted.p95_ms == pytest.approx(expected)
        assert predicted.throughput_per_s == pytest.approx(1e3 / expected)
        assert predicted.local_share == (point == len(one.table) - 1)


def test_energy_is_that_of_the_head_and_the_time_on_air(scenario):
    one = scenario(1)
    on_air_s = 3 * 224 * 224 * 8 / 40e6
    assert predict_fixed(one, [0], 3, power_w=0.5).energy_j == pytest.approx(0.5 * on_air_s)
    total_mmacs = model_graph(DNN).total_macs / 1e6
    local = predict_fixed(one, [len(one.table) - 1], 3, power_w=0.5)
    assert local.energy_j == pytest.approx(1e-5 * total_mmacs)


def test_devices_share_the_server_but_not_the_links(scenario):
    alone = predict_fixed(scenario(1), [0], 20, 0.02).mean_ms
    pair = predict_fixed(scenario(2), [0, 0], 20, 0.02).mean_ms
    three = predict_fixed(scenario(3), [0, 0, 0], 20, 0.02).mean_ms
    # Beside another one, the server's 13 ms take at most twice as long, the link no longer.
    assert alone < pair < alone + 13.0
    assert pair < three < alone + 2 * 13.0
    beside_local = predict_fixed(scenario(2), [0, len(scenario(2).table) - 1], 20, 0.02)
    mean = (alone_ms(scenario(2))[0] + 40.0) / 2
    assert beside_local.mean_ms == pytest.approx(mean)
    assert beside_local.local_share == 0.5


def test_the_best_points_are_those_of_an_enumeration(scenario):
    two = scenario(2)
    candidates = [0, len(two.table) // 2, len(two.table) - 2, len(two.table) - 1]
    costs = {
        pair: predict_fixed(two, pair, 12, 0.02, starts=16).mean_ms
        for pair in itertools.combinations_with_replacement(candidates, 2)
    }
    found = tuple(sorted(best_points(two, candidates, 0.02)))
    assert costs[found] == min(costs.values())


def test_a_policy_is_predicted_window_by_window(scenario, calibration, tmp_path):
    policy = LocalOnly(Scenario(dnn=DNN, num_devices=2, server_latency_ms=1.0))
    like = calibration.scenario(2, tmp_path, like=policy.scenario)
    heads = [point.head for point in like.table.points]
    columns = [heads.index(point.head) for point in policy.scenario.table.points]
    predicted = predict_policy(like, policy, columns, 12, distance_m=50.0)
    assert predicted.mean_ms == pytest.approx(40.0)
    assert predicted.local_share == 1.0 and predicted.waiting_ms == 0.0
    assert predicted.throughput_per_s == pytest.approx(2 / 0.040)


def test_the_rate_does_not_depend_on_the_power(scenario):
    two = scenario(2)
    weak, strong = (predict_fixed(two, [0, 0], 5, power_w=p).mean_ms for p in (1e-3, 0.2))
    assert weak == strong


class Recorder:
    def __init__(self, monkeypatch, fail_at=None):
        self.commands = []
        self.fail_at = fail_at
        monkeypatch.setattr(shaping_module, "_run", self)
        monkeypatch.setattr(shaping_module.os, "geteuid", lambda: 0)
        monkeypatch.setattr(shaping_module.shutil, "which", lambda tool: f"/sbin/{tool}")

    def __call__(self, argv):
        self.commands.append(" ".join(argv))
        if len(self.commands) - 1 == self.fail_at:
            raise MecError("ip link add: Operation not permitted")


def test_each_device_gets_a_shaped_namespace_that_is_removed_again(monkeypatch):
    recorder = Recorder(monkeypatch)
    with shaping("auto", 2, 50.0) as link:
        assert isinstance(link, Namespaces) and link.client_mbps is None
        argv = [link.server_command(["python"]), *(link.command(n, ["python"]) for n in range(2))]
        assert all(command[:3] == ["ip", "netns", "exec"] for command in argv)
        assert len({command[3] for command in argv}) == 3
        shaped = [c for c in recorder.commands if "tbf rate 50000000bit burst 3200" in c]
        assert len(shaped) == 4  # both directions of both devices
        made = [c.split()[3] for c in recorder.commands if c.startswith("ip netns add")]
        assert made == [command[3] for command in argv]
        recorder.commands.clear()
    assert {f"ip netns del {name}" for name in made} < set(recorder.commands)


def test_what_was_set_up_is_removed_if_the_rest_fails(monkeypatch):
    recorder = Recorder(monkeypatch, fail_at=6)
    with shaping("auto", 1, 50.0) as link:
        assert link.client_mbps == 50.0  # the token bucket of the device's client
        assert "Operation not permitted" in link.description
    made = [c.split()[3] for c in recorder.commands if c.startswith("ip netns add")]
    assert f"ip netns del {made[0]}" in recorder.commands


def test_without_rights_the_client_shapes_its_link_itself(monkeypatch):
    monkeypatch.setattr(shaping_module.os, "geteuid", lambda: 1000)
    with shaping("auto", 3, 20.0) as link:
        assert (link.host, link.client_mbps) == ("127.0.0.1", 20.0)
        assert link.command(1, ["a", "b"]) == link.server_command(["a", "b"]) == ["a", "b"]
    with pytest.raises(MecError, match="--link netns is not possible here"):
        with shaping("netns", 3, 20.0):
            pass
    with pytest.raises(MecError, match="did you mean 'bucket'"), shaping("buket", 3, 20.0):
        pass


def child(code):
    return Child("the child", [sys.executable, "-c", code])


def test_a_child_answers_line_by_line():
    echo = child("import sys\nfor line in sys.stdin: print(line.strip() * 2, flush=True)")
    echo.send("ab")
    assert echo.receive(30) == "abab"
    echo.stop()


def test_a_child_that_ends_leaves_its_last_words():
    broken = child("import sys; print('why', file=sys.stderr); sys.exit('no such thing')")
    with pytest.raises(MecError) as error:
        broken.receive(30)
    assert str(error.value) == "the child ended with code 1: no such thing"
    broken.stop()


def test_a_silent_child_is_not_waited_for_for_ever():
    silent = child("import time; time.sleep(600)")
    with pytest.raises(MecError, match=r"did not answer within 0\.05 s"):
        silent.receive(0.05)
    silent.stop()


def test_ending_a_child_ends_its_own_children():
    parent = child(
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(p.pid, flush=True); time.sleep(600)"
    )
    grandchild = int(parent.receive(30))
    parent.stop()
    assert wait_until(lambda: not is_running(grandchild))


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_predictions_are_averaged_over_starts_out_of_step(scenario):
    two = dataclasses.replace(scenario(2))
    one_start = [predict_fixed(two, [0, 0], 10, 0.02, starts=1, seed=s).mean_ms for s in range(40)]
    many = predict_fixed(two, [0, 0], 10, 0.02, starts=400).mean_ms
    assert np.std(one_start) > 0
    assert abs(np.mean(one_start) - many) < 5 * np.std(one_start) / 40**0.5

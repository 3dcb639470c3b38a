"""The real server's scheduler, with a policy for two devices."""

from __future__ import annotations

import math
import signal
import subprocess

import pytest
import torch
from real_server import (
    NUM_TASKS,
    PATIENT_S,
    client_of,
    device_of,
)
from server_process import (
    RLLIB_MEC,
    assert_all_right,
    run_devices,
    wait_until,
)

from rllib_mec.errors import MecError
from rllib_mec.testbed.client import (
    ServerRefused,
)
from rllib_mec.testbed.decisions import Scheduled

pytestmark = pytest.mark.slow


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

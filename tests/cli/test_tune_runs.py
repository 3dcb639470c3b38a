"""Real runs with Tune's schedulers and search algorithms, several experiments, and files by URL."""

from __future__ import annotations

import http.server
import json
import threading

import pytest
import yaml

from rllib_mec.cli.rllib import main

pytestmark = pytest.mark.slow

TINY = {
    "num_env_runners": 0,
    "train_batch_size_per_learner": 200,
    "minibatch_size": 100,
    "num_epochs": 1,
    "model_config": {"fcnet_hiddens": [8]},
}
RATES = {"loguniform": [1e-4, 1e-3]}


def spec(iterations=2, config=None, **changes):
    return {
        "run": "PPO",
        "env": "CartPole-v1",
        "stop": {"training_iteration": iterations},
        "num_samples": 2,
        "config": {**TINY, **(config or {})},
        **changes,
    }


@pytest.fixture
def train(tmp_path, ray_session):
    """A function that trains experiments, and returns the results of each of their trials."""

    def run(**experiments):
        file = tmp_path / "experiments.yaml"
        file.write_text(yaml.safe_dump(experiments))
        assert main(["train", "-f", str(file), "--storage-path", str(tmp_path / "results")]) == 0
        return results(tmp_path)

    return run


def results(tmp_path):
    files = sorted((tmp_path / "results").glob("*/*/result.json"))
    return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]


@pytest.mark.parametrize(
    ("scheduler", "arguments", "search_alg", "most"),
    [
        ("asha", {"max_t": 4, "grace_period": 1, "reduction_factor": 2}, "optuna", 4),
        ("hyperband", {"max_t": 4, "reduction_factor": 2}, "hyperopt", 4),
        ("median_stopping_rule", {"grace_period": 1, "min_samples_required": 1}, None, 3),
    ],
)
def test_a_scheduler_ends_trials_of_a_search(train, capsys, scheduler, arguments, search_alg, most):
    if search_alg:
        pytest.importorskip(search_alg)
    trials = train(
        searched=spec(
            iterations=4 if search_alg else 3,
            config={"lr": RATES, "gamma": {"choice": [0.9, 0.99]}},
            scheduler=scheduler,
            scheduler_config={"time_attr": "training_iteration", **arguments},
            **({"search_alg": search_alg} if search_alg else {}),
            max_concurrent_trials=2,
        )
    )
    assert len(trials) == 2
    for trial in trials:
        rate = trial[-1]["config"]["lr"]
        assert 1e-4 <= rate <= 1e-3 and trial[-1]["config"]["gamma"] in (0.9, 0.99)
        assert trial[-1]["learners"]["default_policy"]["default_optimizer_learning_rate"] == rate
        assert trial[-1]["training_iteration"] <= most
    assert len({trial[-1]["config"]["lr"] for trial in trials}) == 2
    out = capsys.readouterr().out
    assert "lr=" in out and "gamma=" in out and "Best checkpoint" in out


def exploited(tmp_path):
    """The trial that went on from the other one's checkpoint, by its results."""
    (log,) = (tmp_path / "results").glob("*/pbt_global.txt")
    tag, *_ = json.loads(log.read_text().splitlines()[0])
    return results(tmp_path)[int(tag.split("_")[0])]


def test_pbt_exploits_a_checkpoint_of_emh_ppo_and_keeps_to_the_bounds(train, tmp_path, capsys):
    train(
        population={
            "run": "EMH-PPO",
            "env": "mec_task_window_v0",
            "stop": {"training_iteration": 4},
            "num_samples": 2,
            "metric": "env_runners/reward",
            "scheduler": "pbt",
            "scheduler_config": {
                "time_attr": "training_iteration",
                "perturbation_interval": 2,
                "quantile_fraction": 0.5,
                "synch": True,
                "resample_probability": 0.0,
                "hyperparam_mutations": {
                    "lr": {"uniform": [1e-4, 1.01e-4]},
                    "lambda": {"uniform": [0.9, 0.99]},
                    "env_config": {"energy_weight": {"uniform": [49, 51]}},
                },
            },
            "config": {
                "env_config": {"num_devices": 2, "max_window": 2, "mean_tasks": 4},
                "model_config": {
                    "embedding_hiddens": [8],
                    "agent_hiddens": [8],
                    "critic_hiddens": [8],
                },
                "num_envs_per_env_runner": 4,
                "train_batch_size_per_learner": 64,
                "minibatch_size": 32,
                "num_epochs": 1,
            },
        }
    )
    trial = exploited(tmp_path)
    before, after = trial[0], trial[-1]
    assert [result["training_iteration"] for result in trial] == [1, 2, 3, 4]
    assert after["num_env_steps_sampled_lifetime"] == 4 * 64
    rate = after["config"]["lr"]
    assert rate in (1e-4, 1.01e-4)  # a fifth more or less, and so at a bound
    assert rate != before["config"]["lr"]
    assert after["learners"]["default_policy"]["default_optimizer_learning_rate"] == rate
    assert after["config"]["lambda"] in (0.9, 0.99)
    assert after["config"]["env_config"]["energy_weight"] in (49, 51)
    assert after["config"]["env_config"]["num_devices"] == 2
    assert "going on after iteration 2, 128 steps" in capsys.readouterr().out


def test_pb2_moves_within_its_bounds(train, tmp_path):
    pytest.importorskip("sklearn")
    train(
        population=spec(
            iterations=4,
            scheduler="pb2",
            scheduler_config={
                "time_attr": "training_iteration",
                "perturbation_interval": 2,
                "quantile_fraction": 0.5,
                "synch": True,
                "hyperparam_bounds": {"lr": [1e-4, 1e-3]},
            },
        )
    )
    trial = exploited(tmp_path)
    rate = trial[-1]["config"]["lr"]
    assert 1e-4 <= rate <= 1e-3 and rate != trial[0]["config"]["lr"]
    assert trial[-1]["learners"]["default_policy"]["default_optimizer_learning_rate"] == rate


class Serve(http.server.SimpleHTTPRequestHandler):
    """Serves one text, or one that is too long."""

    text = ""

    def do_GET(self):
        self.send_response(404 if self.path == "/missing.yaml" else 200)
        self.end_headers()
        self.wfile.write(b"#" * 1_000_001 if self.path == "/long.yaml" else self.text.encode())

    def log_message(self, *args):
        pass


@pytest.fixture
def url():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Serve)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_experiments_of_a_file_on_the_web_run_in_turn_and_resume(
    url, tmp_path, capsys, ray_session, monkeypatch
):
    first = spec(iterations=1, num_samples=1, callbacks=["ray.tune.logger:CSVLoggerCallback"])
    second = spec(iterations=1, num_samples=1, resources_per_trial={"cpu": 2})
    monkeypatch.setattr(Serve, "text", yaml.safe_dump({"first": first, "second": second}))
    command = ["train", "file", f"{url}/two.yaml", "--storage-path", str(tmp_path / "results")]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert out.index("[experiment 1/2] first") < out.index("[experiment 2/2] second")
    assert out.count("1 iterations, 200 environment steps") == 2
    assert len(list((tmp_path / "results" / "first").glob("*/progress.csv"))) == 1
    assert [trial[-1]["config"]["num_cpus_for_main_process"] for trial in results(tmp_path)] == [
        1,
        2,
    ]
    assert main([*command, "--resume", "--stop", '{"training_iteration": 2}']) == 0
    assert [len(trial) for trial in results(tmp_path)] == [2, 2]
    capsys.readouterr()

    assert main([*command, "--experiment-name", "x"]) == 2
    assert "the file has 2: first, second" in capsys.readouterr().err
    for page, message in (("missing", "HTTP 404"), ("long", "longer than 1,000 kB")):
        assert main(["train", "-f", f"{url}/{page}.yaml"]) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1

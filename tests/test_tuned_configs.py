import functools
from pathlib import Path

import numpy as np
import pytest

from rllib_mec.experiments import experiment
from rllib_mec.policies import Planner, PlannerBudget

CONFIGS = Path(__file__).parents[1] / "tuned_configs"
FILES = sorted(CONFIGS.rglob("*.yaml"))


def load(path):
    return experiment.check(*experiment.read_spec(str(path)), notify=pytest.fail)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(CONFIGS)))
def test_says_what_it_trains_and_keeps_a_checkpoint(path):
    assert path.read_text().startswith("# ")
    loaded = load(path)
    assert loaded.checkpoint_config["checkpoint_at_end"]
    if "training_iteration" in loaded.stop:  # lessons alone
        assert loaded.stop["training_iteration"] >= loaded.config.lessons > 1
    else:  # after demonstrations there is less to learn
        least = 20_000 if getattr(loaded.config, "demonstrations", 0) else 50_000
        assert loaded.stop["num_env_steps_sampled_lifetime"] >= least


@pytest.mark.slow
@pytest.mark.no_cover  # what trains is measured in tests/algorithms
@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(CONFIGS)))
def test_builds_and_trains_until_an_episode_has_ended(path, ray_session, monkeypatch):
    config = load(path).config
    config.training(train_batch_size_per_learner=256, minibatch_size=128, num_epochs=1)
    config.env_runners(num_envs_per_env_runner=8)  # few steps until their episodes end
    if getattr(config, "demonstrations", 0):  # as it is, but for a teacher that hardly searches
        config.training(demonstrations=512, imitation_epochs=1)
        config.env_config["num_devices"] = 2
        if config.teacher == "search":
            config.training(search_candidates=8)
        quick = PlannerBudget(refined=1, rounds=1, proposals=1, samples=8, final_samples=8)
        planner = functools.partial(Planner, cache=False)
        monkeypatch.setattr("rllib_mec.algorithms.emh_ppo.teachers.Planner", planner)
        monkeypatch.setattr(
            "rllib_mec.algorithms.emh_ppo.teachers.PlannerBudget", lambda **beam: quick
        )
    if "horizon_ms" in config.env_config:
        config.env_config["horizon_ms"] = 50  # an episode of dozens of MDs has thousands of tasks
    if randomize := config.env_config.get("randomize"):  # the planner searches in each
        randomize.update(num_scenarios=2, num_devices=[1, 3])
    algorithm = config.build_algo()
    try:
        runners = algorithm.train()["env_runners"]
        assert runners["num_env_steps_sampled_lifetime"] >= config.total_train_batch_size
        while "episode_return_mean" not in runners:  # episodes of time slots have many steps
            runners = algorithm.train()["env_runners"]
        assert np.isfinite(runners["episode_return_mean"])
    finally:
        algorithm.stop()


def test_the_papers_file_is_table_iii():
    loaded = load(CONFIGS / "paper" / "emh_ppo.yaml")
    config, scenario = loaded.config, loaded.config.env_config
    assert (config.lr, config.minibatch_size, config.gamma, config.clip_param) == (
        1e-4,
        256,
        0.95,
        0.2,
    )
    assert (scenario["num_devices"], scenario["num_servers"], scenario["num_channels"]) == (3, 2, 2)
    assert scenario["partition"] == "operator"
    assert any(value == 1_500_000 for value in loaded.stop.values())

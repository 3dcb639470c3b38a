"""Evaluation beside training, by the number of steps or for as long as training takes."""

import numpy as np
import pytest
from joint import make_runner, small


@pytest.fixture
def evaluating():
    config = small().copy(copy_frozen=False)
    config.in_evaluation = True
    return make_runner(config)


def test_evaluation_for_a_number_of_steps_runs_whole_episodes_each_once(evaluating):
    episodes = evaluating.sample(num_timesteps=30.5)
    assert sum(map(len, episodes)) >= 31 and all(e.is_terminated for e in episodes)
    assert len({episode.get_rewards().tobytes() for episode in episodes}) == len(episodes)
    assert evaluating.get_metrics()["num_episodes"].peek() == len(episodes)


def test_further_rounds_of_an_evaluation_run_other_episodes_and_new_weights_begin_anew(evaluating):
    def rewards():
        episodes = evaluating.sample(num_timesteps=30, explore=False)
        return [episode.get_rewards().tobytes() for episode in episodes]

    first, second = rewards(), rewards()
    assert not set(first) & set(second)
    evaluating.set_state(evaluating.get_state(components="rl_module"))
    assert rewards() == first


@pytest.mark.slow
def test_an_evaluation_of_automatic_duration_has_results(ray_session):
    algorithm = (
        small()
        .evaluation(
            evaluation_interval=1,
            evaluation_duration="auto",
            evaluation_parallel_to_training=True,
            evaluation_num_env_runners=1,
            evaluation_config={"explore": False, "num_cpus_per_env_runner": 0.25},
        )
        .training(train_batch_size_per_learner=2048, num_epochs=4)
        .build_algo()
    )
    try:
        for _ in range(5):  # a result that comes after the training step is not waited for
            evaluation = algorithm.train()["evaluation"]
            if "env_runners" in evaluation:
                break
        assert np.isfinite(evaluation["env_runners"]["reward"])
    finally:
        algorithm.stop()

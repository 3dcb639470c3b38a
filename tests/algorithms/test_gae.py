import numpy as np
import pytest

from rllib_mec.algorithms.gae import per_task_gae


def test_hand_computed_advantages_of_two_slots():
    rewards = np.array([[[1.0, 0.0]], [[2.0, 4.0]]])  # T=2, one world, W_max=2
    values = np.array([[[0.5, 1.0]], [[1.0, 0.0]], [[3.0, 2.0]]])
    terminated = np.array([[False], [False]])
    advantages, targets = per_task_gae(rewards, values, terminated, gamma=0.5, lambda_=0.5)
    last = np.array([2 + 0.5 * 3 - 1, 4 + 0.5 * 2 - 0])
    first = np.array([1 + 0.5 * 1 - 0.5, 0 + 0.5 * 0 - 1]) + 0.25 * last
    np.testing.assert_allclose(advantages[:, 0], [first, last])
    np.testing.assert_allclose(targets, advantages + values[:-1])


def test_nothing_flows_back_over_the_end_of_an_episode():
    rewards = np.ones((2, 1, 1))
    values = np.zeros((3, 1, 1))
    values[1:] = 100.0
    advantages, _ = per_task_gae(rewards, values, np.array([[True], [False]]), 0.95, 0.95)
    assert advantages[0, 0, 0] == pytest.approx(1.0)


def test_lambda_one_gives_discounted_returns():
    rng = np.random.default_rng(0)
    rewards = rng.normal(size=(5, 3, 2))
    values = np.zeros((6, 3, 2))
    _, targets = per_task_gae(rewards, values, np.zeros((5, 3), bool), 0.9, 1.0)
    expected = sum(0.9**t * rewards[t] for t in range(5))
    np.testing.assert_allclose(targets[0], expected, rtol=1e-5)

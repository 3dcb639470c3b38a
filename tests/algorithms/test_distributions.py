import math

import pytest
import torch

from rllib_mec.algorithms.distributions import (
    HEADS,
    HybridActionDistribution,
    HybridActionLayout,
    hybrid_distribution_cls,
)

LAYOUT = HybridActionLayout(
    num_devices=2,
    max_window=3,
    num_points=4,
    num_channels=2,
    num_servers=5,
    num_decisions=3,
)


@pytest.fixture
def dist():
    generator = torch.Generator().manual_seed(0)
    return HybridActionDistribution(
        torch.randn(7, LAYOUT.num_devices, LAYOUT.num_inputs, generator=generator), LAYOUT
    )


def test_layout_survives_a_round_trip_through_the_joint_space():
    assert HybridActionLayout.from_space(LAYOUT.joint_space()) == LAYOUT


def test_samples_and_modes_lie_in_the_joint_space_once_power_is_clipped(dist):
    space = LAYOUT.joint_space()
    for actions in (dist.sample(), dist.mode(), dist.to_deterministic().sample()):
        for world in range(7):
            action = {h: actions[h][world].numpy() for h in HEADS}
            action["power"] = action["power"].clip(0, 1)
            assert space.contains(action)


def test_joint_logp_is_the_sum_over_slots_and_heads(dist):
    actions = dist.sample()
    expected = torch.zeros(7)
    for n in range(2):
        expected += dist._log_probs["window"][:, n].gather(-1, actions["window"][:, n, None])[:, 0]
        for x in range(3):
            for head in HEADS[:3]:
                log_probs = dist._log_probs[head][:, n, x]
                expected += log_probs.gather(-1, actions[head][:, n, x, None])[:, 0]
            normal = torch.distributions.Normal(dist._mean[:, n, x], dist._log_std[:, n, x].exp())
            expected += normal.log_prob(actions["power"][:, n, x])
    torch.testing.assert_close(dist.logp(actions), expected)


def test_uniform_logits_have_the_entropy_of_a_uniform_choice():
    dist = HybridActionDistribution(torch.zeros(1, 2, LAYOUT.num_inputs), LAYOUT)
    entropies = dist.entropies()
    assert entropies["partition"].allclose(torch.tensor(math.log(4)))
    assert entropies["server"].allclose(torch.tensor(math.log(5)))
    assert entropies["window"].shape == (1, 2)
    assert entropies["power"].allclose(torch.tensor(0.5 * math.log(2 * math.pi * math.e)))
    total = 2 * 3 * sum(entropies[h][0, 0, 0] for h in HEADS[:4]) + 2 * math.log(3)
    torch.testing.assert_close(dist.entropy()[0], total)


def test_kl_is_zero_with_itself_and_positive_otherwise(dist):
    other = HybridActionDistribution(torch.randn(7, 2, LAYOUT.num_inputs), LAYOUT)
    torch.testing.assert_close(dist.kl(dist), torch.zeros(7), atol=1e-5, rtol=0)
    assert (dist.kl(other) > 0).all()


def test_samples_follow_the_probabilities():
    layout = HybridActionLayout(1, 1, 2, 1, 1, 1)
    inputs = torch.zeros(20_000, 1, layout.num_inputs)
    inputs[..., 0] = math.log(3)  # partition 0 three times as likely as partition 1
    sample = HybridActionDistribution(inputs, layout).sample(
        generator=torch.Generator().manual_seed(1)
    )
    assert sample["partition"].float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert sample["power"].mean().item() == pytest.approx(0.5, abs=0.03)
    assert sample["power"].std().item() == pytest.approx(1.0, abs=0.03)


def test_the_same_generator_gives_the_same_sample(dist):
    first, second = (dist.sample(generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert all(torch.equal(first[h], second[h]) for h in HEADS)


def test_the_bound_class_is_what_rllib_expects(dist):
    cls = hybrid_distribution_cls(LAYOUT)
    inputs = torch.zeros(1, 2, LAYOUT.num_inputs)
    assert cls.from_logits(inputs).sample()["window"].shape == (1, 2)
    assert HybridActionDistribution.required_input_dim(LAYOUT.joint_space()) == LAYOUT.num_inputs

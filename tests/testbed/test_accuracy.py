import pytest
import torch

from rllib_mec.dnn import codec
from rllib_mec.errors import MecError
from rllib_mec.testbed.accuracy import (
    UNITS,
    Degradation,
    SplitAccuracy,
    degradation_probability,
    mix,
)

TASKS, CLASSES = 4000, 10


def one_hot_dnn(tasks=TASKS):
    """A DNN whose features are one-hot: the tail's argmax is right as long as they are intact."""
    labels = torch.arange(tasks) % CLASSES
    inputs = torch.nn.functional.one_hot(labels, CLASSES).float()
    return SplitAccuracy(lambda x: {"a": x}, lambda t: t["a"], inputs, labels)


def test_the_probability_is_the_share_of_the_local_latency():
    assert degradation_probability(787.81, 2150.75) == pytest.approx(0.3663, abs=1e-4)
    assert degradation_probability(3000.0, 2150.75) == 1.0
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(MecError, match="positive number"):
            degradation_probability(bad, 1.0)


def test_noise_has_the_strength_it_says_for_each_task_by_itself():
    scale = torch.tensor([0.01, 1.0, 300.0]).view(3, 1, 1)
    tensor = scale * torch.randn(3, 100, 100, generator=torch.Generator().manual_seed(1))
    noisy = Degradation("noise", 2.0)(tensor, torch.Generator().manual_seed(2))
    rms = tensor.square().mean((1, 2)).sqrt()
    noise = noisy - tensor
    assert torch.allclose(noise.std((1, 2)) / rms, torch.tensor(2.0), rtol=0.03)
    assert (noise.mean((1, 2)).abs() / rms < 5 * 2.0 / 100).all()  # five standard errors


@pytest.mark.parametrize("name", ["float16", "int8", "int4"])
def test_a_codec_codes_each_task_by_itself(name):
    tensor = torch.tensor([[0.0, 0.3, 1.0], [0.0, 300.0, 1000.0]])
    coded = Degradation(name)(tensor, torch.Generator())
    for own, original in zip(coded, tensor, strict=True):
        assert torch.equal(own, codec(name).decode(codec(name).encode(original), (3,)))


def test_mix_takes_each_element_with_the_probability():
    intact = {"a": torch.zeros(100, 1000), "b": torch.zeros(100, 10)}
    degraded = {name: torch.ones_like(tensor) for name, tensor in intact.items()}
    mixed = mix(intact, degraded, 0.3, torch.Generator().manual_seed(0))
    share = mixed["a"].mean()
    assert abs(share - 0.3) < 5 * (0.3 * 0.7 / 1e5) ** 0.5  # five standard errors
    # Within a task single elements are hit, not the task as a whole.
    assert abs(mixed["a"].mean(1) - 0.3).max() < 0.1
    assert mix(intact, degraded, 0.0, torch.Generator())["b"].sum() == 0
    assert mix(intact, degraded, 1.0, torch.Generator())["b"].mean() == 1


def test_whole_tasks_lose_in_proportion_to_the_probability():
    accuracy = one_hot_dnn()
    noise = Degradation("noise", 50.0)  # nothing of the feature is left
    assert accuracy.lossless == 1.0
    for probability in (0.1, 0.5, 0.9):
        got = accuracy.degraded(noise, probability, unit="task", seed=0)
        expected = 1 - probability * (1 - 1 / CLASSES)  # a degraded task is a guess
        assert abs(got - expected) < 5 * (0.25 / TASKS) ** 0.5


def test_single_elements_lose_more_than_in_proportion():
    accuracy = one_hot_dnn()
    noise = Degradation("noise", 5.0)
    losses = {
        p: 1 - accuracy.degraded(noise, p, unit="element", seed=0) for p in (0.0, 0.1, 0.2, 1.0)
    }
    assert losses[0.0] == 0.0
    # p = 0.1 reaches on average one of ten elements: already far more than a tenth of the loss.
    assert losses[0.1] > 0.3 * losses[1.0]
    assert losses[0.1] < losses[0.2] < losses[1.0]


@pytest.mark.parametrize("unit", UNITS)
def test_draws_depend_on_the_seed_alone(unit):
    noise = Degradation("noise", 2.0)
    first, again = (one_hot_dnn().degraded(noise, 0.5, unit=unit, seed=3) for _ in range(2))
    assert first == again
    assert first != one_hot_dnn().degraded(noise, 0.5, unit=unit, seed=4)


def test_a_codec_that_keeps_the_largest_element_loses_nothing():
    accuracy = one_hot_dnn(tasks=50)
    for unit in UNITS:
        assert accuracy.degraded(Degradation("int4"), 1.0, unit=unit, seed=0) == 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Degradation("int9"), "did you mean 'int8'?"),
        (lambda: Degradation("noise"), "strength of 'noise' must be a positive number"),
        (lambda: Degradation("noise", float("nan")), "must be a positive number"),
        (lambda: Degradation("int8", 2.0), "strength of 'int8' must be 0"),
        (
            lambda: one_hot_dnn(10).degraded(Degradation("int8"), 1.5, unit="task", seed=0),
            "probability must lie in",
        ),
        (
            lambda: one_hot_dnn(10).degraded(Degradation("int8"), 0.5, unit="tasks", seed=0),
            "did you mean 'task'?",
        ),
    ],
)
def test_bad_input_is_one_line(make, message):
    with pytest.raises(MecError) as error:
        make()
    assert message in str(error.value) and "\n" not in str(error.value)

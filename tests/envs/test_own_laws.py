"""A law of a user's own that fails, or gives what it must not, is one line that says where."""

import dataclasses
import datetime
import fractions
import re
import sys

import numpy as np
import pytest
import torch

from rllib_mec.cli.mec import main
from rllib_mec.envs import ObservationLayout, TaskWindowMDP, TimeSlotMDP
from rllib_mec.envs.from_mdp import env_class
from rllib_mec.envs.laws import NUMBERS, decoded
from rllib_mec.envs.observation import State
from rllib_mec.errors import MecError
from rllib_mec.evaluation import evaluate
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import LocalOnly, RandomPolicy

LAWS = (*NUMBERS, "observation_layout", "observation_size")
SCENARIO = Scenario(num_devices=2, mean_tasks=6.0)


def mdp_with(law, function, base=TaskWindowMDP):
    """An MDP of the user's whose law makes something of what the base class's gives."""

    def of_method(self, *given):
        return function(getattr(super(own, self), law)(*given))

    def of_property(self):
        return function(getattr(super(own, self), law))

    changed = property(of_property) if law.startswith("observation") else of_method
    own = type("Own", (base,), {law: changed, "env_id": "own_v0"})
    return own(SCENARIO)


def use(mdp):
    """Everything that asks a law, as an evaluation and an environment do."""
    evaluate(LocalOnly(mdp), mdp, episodes=2, draw=True)


def refusal(mdp):
    with pytest.raises(MecError) as error:
        use(mdp)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
    return str(error.value)


def out_of(kind):
    """What makes the numbers of a law a kind of another one."""
    return lambda values: kind(np.asarray(values))


BAD_ARRAYS = {
    "complex": (out_of(lambda v: v + 0j), "one of complex"),
    "bool": (out_of(lambda v: v > 0), "one of bool"),
    "object": (out_of(lambda v: v.astype(object)), "one of object"),
    "fractions": (lambda v: [[fractions.Fraction(1, 2)] * len(v[0])] * len(v), "one of object"),
    "text": (out_of(lambda v: v.astype(str)), "one of <U"),
    "times": (out_of(lambda v: v.astype(int).astype("m8[s]")), "one of timedelta64"),
    "a date": (lambda v: datetime.date(2026, 1, 1), "a date"),
    "masked": (np.ma.masked_array, "a MaskedArray"),
    "ragged": (lambda v: [[1.0, 2.0], [1.0]], "rows of unequal length"),
    "tensor": (out_of(torch.as_tensor), "a Tensor"),
    "tensor of a network": (lambda v: torch.ones(v.shape, requires_grad=True), "a Tensor"),
    "nothing": (lambda v: None, "None"),
    "one number": (lambda v: 1.0, "a float"),
    "transposed": (out_of(lambda v: np.ones((7, 3), v.dtype)), "one of shape (7, 3)"),
}


@pytest.mark.parametrize("law", NUMBERS)
@pytest.mark.parametrize(("change", "came"), BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_what_is_no_array_of_numbers_is_named_with_its_law(law, change, came):
    told = refusal(mdp_with(law, change))
    assert told.startswith(f"Own.{law} must give an array (2, ") and f"but gave {came}" in told
    assert re.search(r"\(.*test_own_laws\.py:\d+\)$", told)


HUGE = np.uint64(2**64 - 1)
OUT_OF_RANGE = [
    *((law, value) for law in NUMBERS for value in (1e300, -1e300, np.nan, np.inf, -np.inf)),
    *((law, -1.0) for law in NUMBERS if law != "task_rewards"),
    *(("draw_tasks", whole) for whole in (0, -1, 10**9 + 1, HUGE)),
    *(("draw_distances", value) for value in (0.0, 1e10, HUGE)),
]


@pytest.mark.parametrize(("law", "value"), OUT_OF_RANGE)
def test_a_value_is_checked_as_the_kernels_take_it(law, value):
    told = refusal(mdp_with(law, lambda values: np.full(np.shape(values), value)))
    assert told.startswith(f"Own.{law} must give an array (2, ")
    came = "one of float64" if law == "draw_tasks" and isinstance(value, float) else f"{value} at ["
    assert f"but gave {came}" in told


@pytest.mark.parametrize("law", NUMBERS)
@pytest.mark.parametrize("kind", [np.int8, np.uint64, np.float16, np.longdouble, list, "F"])
def test_any_real_numbers_within_range_will_do(law, kind):
    def ones(values):
        if kind is list:
            return np.ones(values.shape, int).tolist()
        return np.ones(values.shape, int, order="F") if kind == "F" else np.ones(values.shape, kind)

    if law != "draw_tasks" or kind not in (np.float16, np.longdouble):
        use(mdp_with(law, ones))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (KeyError("queue"), "KeyError: 'queue'"),
        (MecError("there is no queue"), "there is no queue"),
        (SystemExit("enough"), "SystemExit: enough"),
        (ValueError("two\nlines"), "ValueError: two lines"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_what_a_law_raises_is_told_with_the_line_of_the_users_file(law, fault, told):
    def fail(values):
        raise fault

    line = fail.__code__.co_firstlineno + 1
    text = refusal(mdp_with(law, fail))
    assert text.startswith(f"Own.{law} failed: {told} (")
    assert text.endswith(f"test_own_laws.py:{line})")


def test_ctrl_c_in_a_law_is_ctrl_c():
    def fail(values):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        use(mdp_with("observe", fail))


def test_a_law_of_another_signature_is_told():
    class Own(TaskWindowMDP):
        env_id = "own_v0"

        def observe(self):
            return np.zeros((2, 4))

    assert "Own.observe failed: TypeError: " in refusal(Own(SCENARIO))


BAD_LAYOUTS = {
    "dict": (lambda layout: dict(layout.sizes), "an ObservationLayout, but gave a dict"),
    "none": (lambda layout: None, "an ObservationLayout, but gave None"),
    "method": (lambda layout: lambda: layout, "decorate it with @property, but gave a function"),
    "other queues": (
        lambda layout: ObservationLayout({**layout.sizes, "queues": 1}),
        "2 'queues', one per MD",
    ),
    "sizes": (lambda layout: layout.plus(more=-1), "size of 'more' must be at least 0"),
    "fraction": (lambda layout: layout.plus(more=1.5), "size of 'more' must be a whole number"),
    "huge": (lambda layout: layout.plus(more=10**30), "size of 'more' must be at most"),
    "list": (lambda layout: ObservationLayout(["queues"]), "must be a mapping such as"),  # pyright: ignore[reportArgumentType]
    "nameless": (lambda layout: ObservationLayout({3: 3}), "must have a name, but has 3"),  # pyright: ignore[reportArgumentType]
}


@pytest.mark.parametrize(("change", "told"), BAD_LAYOUTS.values(), ids=BAD_LAYOUTS)
def test_a_layout_of_another_kind_is_told(change, told):
    mdp = mdp_with("observation_layout", change)
    text = refusal(mdp)
    assert text.startswith("Own.observation_layout ") and told in text
    assert "test_own_laws.py:" in text
    with pytest.raises(MecError, match=re.escape(told)):
        env_class("own", type(mdp))(num_devices=2)


def test_an_observation_of_another_size_than_its_layout_is_told():
    told = refusal(mdp_with("observation_layout", lambda layout: layout.plus(more=3)))
    assert told.startswith(
        "Own.observation_layout must give the size of observe's, 4, but gave 7 ("
    )
    told = refusal(mdp_with("observation_size", lambda size: 5))
    assert told.startswith("Own.observation_size must give 4, the size of observation_layout, but ")
    told = refusal(mdp_with("observe", lambda seen: seen[:, :3]))
    assert told.startswith("Own.observe must give an array (2, 4)") and "of shape (2, 3)" in told


@pytest.mark.parametrize("base", [TaskWindowMDP, TimeSlotMDP])
@pytest.mark.parametrize("law", NUMBERS)
def test_a_law_that_writes_into_what_it_is_given_changes_nothing(law, base):
    def scribble(given):
        for each in given:
            if isinstance(each, np.ndarray):
                each[...] = 1
            elif isinstance(each, tuple):
                scribble(each)
            elif dataclasses.is_dataclass(each):
                scribble([each.keys])

    def written(self, *given):
        found = getattr(super(own, self), law)(*given)
        found = found.copy()
        scribble(given)
        return found

    own = type("Own", (base,), {law: written, "env_id": "own_v0"})

    def trajectory(mdp):
        worlds = mdp.make(3, seed=4)
        policy = RandomPolicy(mdp)
        steps = [worlds.step(policy.decide(worlds.observation())) for _ in range(6)]
        return [value for step in steps for value in (*step, worlds.led_to(step))]

    for ours, theirs in zip(trajectory(base(SCENARIO)), trajectory(own(SCENARIO)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_a_law_keeps_is_not_the_worlds():
    kept = np.full((2, 2), 20.0)
    worlds = mdp_with("draw_distances", lambda drawn: kept).make(2)
    kept[:] = 1.0
    assert (worlds.distances_m == 20.0).all()


LAW_FILE = """
import dataclasses
from rllib_mec.envs import TaskWindowMDP

@dataclasses.dataclass(frozen=True)
class Own(TaskWindowMDP):
    env_id = "own_file_v0"
    price: float = 1.0

    def __post_init__(self):
        if self.price == 3:
            raise KeyError("price")

    def task_rewards(self, outcome):
        return super().task_rewards(outcome) / 0 if self.price == 2 else {}
"""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("price=1", "Own.task_rewards must give an array (2, 5) of numbers"),
        ("price=1", "but gave a dict (own_file.py:14)"),
        ("price=3", "Own failed: KeyError: 'price' (own_file.py:12)"),
        ("price=text", "Own.task_rewards must give"),
    ],
)
def test_compare_tells_it_in_one_line(arguments, told, tmp_path, monkeypatch, capsys):
    (tmp_path / "own_file.py").write_text(LAW_FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_file", raising=False)
    command = (
        f"compare --policies local-only --episodes 2 --env own_file:Own --scenario {arguments}"
    )
    assert main(command.split()) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (lambda seen: seen, "a State, but gave a ndarray"),
        (lambda seen: State(seen[:, :2], seen[:, 2:]), "whole numbers from 0 to 1e+09, but gave"),
        (lambda seen: State(np.ones((1, 2), int), seen[:, 2:]), "(3, 2) of whole"),
        (lambda seen: State(np.ones((3, 2), int), None), "but gave None"),
    ],
)
def test_what_decodes_observations_is_checked_too(given, told):
    class Own(TaskWindowMDP):
        env_id = "own_v0"

        def decode(self, seen):
            return given(seen)

    mdp = Own(SCENARIO)
    with pytest.raises(MecError, match=r"Own\.decode must give") as error:
        decoded(mdp, mdp.make(3).observation())
    assert told in str(error.value) and "test_own_laws.py" in str(error.value)

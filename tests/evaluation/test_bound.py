"""The bound on cost: below everything that is played, and as computed by hand."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_mec.envs import TaskWindowMDP, TimeSlotMDP
from rllib_mec.errors import MecError
from rllib_mec.evaluation import comparison_table, evaluate, lower_bound
from rllib_mec.evaluation.bound import BOUNDED
from rllib_mec.evaluation.radio_limits import best_trades, least_air_time, sum_rates
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import (
    FullOffload,
    LocalOnly,
    Neurosurgeon,
    RandomPolicy,
    RoundRobin,
    ShortestQueue,
)

POLICIES = (LocalOnly, FullOffload, RandomPolicy, Neurosurgeon, RoundRobin, ShortestQueue)
SMALL = 1.0 - 1e-9

device_groups = st.fixed_dictionaries(
    {
        "count": st.integers(1, 2),
        "dnn": st.sampled_from(["resnet50", "mobilenet_v2"]),
        "local_slowdown": st.floats(0.5, 12.0),
        "max_power_dbm": st.floats(3.0, 30.0),
        "energy_per_mmac_j": st.floats(1e-7, 1e-4),
    }
)
server_groups = st.fixed_dictionaries(
    {
        "count": st.integers(1, 2),
        "speed": st.floats(0.2, 5.0),
        "latency_ms": st.sampled_from([0.0, 4.0]),
    }
)
channel_groups = st.fixed_dictionaries(
    {"count": st.integers(1, 2), "bandwidth_hz": st.floats(3e4, 3e7)}
)
networks = st.fixed_dictionaries(
    {
        "profile": st.sampled_from(["paper", "si"]),
        "devices": st.lists(device_groups, min_size=1, max_size=2),
        "servers": st.lists(server_groups, min_size=1, max_size=2),
        "channels": st.lists(channel_groups, min_size=1, max_size=2),
        "max_window": st.integers(1, 3),
        "min_spectral_efficiency": st.sampled_from([0.0, 0.1523, 2.0]),
        "remote_feature_share": st.sampled_from([0.5, 1.0]),
        "server_model": st.sampled_from(["constant", "share"]),
        "power_scale": st.sampled_from(["dbm", "linear"]),
        "energy_weight": st.sampled_from([0.0, 5.0, 500.0]),
        "waiting_weight": st.sampled_from([0.0, 0.05]),
    }
)


def mutated(actions, best, scenario, rng):
    """Actions near the best ones, some decisions drawn anew: a search for what beats the bound."""
    fresh = RandomPolicy(scenario, seed=int(rng.integers(1 << 30))).decide(actions["power"])
    parents = rng.choice(best, len(actions["power"]))
    for key, values in actions.items():
        anew = rng.random(values.shape) < 0.15
        actions[key] = np.where(anew, fresh[key], values[parents])


@settings(max_examples=25, deadline=None)
@given(network=networks, seed=st.integers(0, 1000))
def test_without_shadowing_no_window_is_below_it_however_it_was_searched(network, seed):
    scenario = Scenario(shadowing_std_db=0.0, **network)
    rng = np.random.default_rng(seed)
    distances = rng.uniform(1.0, 120.0, scenario.num_devices).tolist()
    whole = scenario.max_window
    bound = lower_bound(scenario, num_tasks=whole, distance_m=distances)
    worlds = TaskWindowMDP(scenario).make(64, seed, num_tasks=whole, distance_m=distances)
    actions = RandomPolicy(scenario, seed=seed).decide(worlds.reset())
    for _ in range(8):
        window = worlds.simulate(actions)
        assert (-window.reward >= -bound.reward * SMALL).all()
        episode = window.terminated  # all tasks in one window
        cost = window.latency_ms + scenario.energy_weight / scenario.num_devices * window.energy_j
        assert (window.latency_ms[episode] >= bound.latency_ms * SMALL).all()
        assert (cost[episode] >= bound.cost * SMALL).all()
        mutated(actions, np.argsort(-window.reward)[:8], scenario, rng)


UNLIKE = {
    "devices": [{"count": 2}, {"count": 1, "dnn": "mobilenet_v2", "local_slowdown": 12}],
    "servers": [{"count": 1}, {"count": 1, "speed": 2.5, "latency_ms": 3}],
    "channels": [{"count": 1}, {"count": 1, "bandwidth_hz": 5e6}],
}


@pytest.mark.parametrize("name", ["umi_street_canyon", "inf_dl", "uma"])
@pytest.mark.parametrize("fields", [{}, {"profile": "si"}, {"shadowing_std_db": 0.0}])
def test_no_policys_mean_is_below_it_by_path_losses_of_3gpp(name, fields):
    # The noise is such that neither state is hopeless, nor perfect.
    scenario = Scenario(path_loss=name, noise_w=1e-11, num_channels=1, **fields)
    for distance_m in (20.0, 90.0):
        bound = lower_bound(scenario, distance_m=distance_m)
        for make in POLICIES:
            found = evaluate(make(scenario), episodes=20, distance_m=distance_m)
            for metric, gap in bound.gap(found).items():
                assert gap >= 1.0, (make.name, metric)


def test_one_device_by_umi_by_hand():
    # Without shadowing, but with a line of sight in 63.1 % of the windows at 40 m:
    # 18/40 + e^(−40/36)(1 − 18/40). Losses as in tests/network/test_path_loss.py.
    fields = {"num_devices": 1, "num_servers": 1, "num_channels": 1, "shadowing_std_db": 0.0}
    scenario = Scenario(path_loss="umi_street_canyon", noise_w=1e-11, **fields)
    d3, ghz = np.hypot(40.0, 8.5), np.log10(3.5)
    losses = (
        32.4 + 21 * np.log10(d3) + 20 * ghz,
        22.4 + 35.3 * np.log10(d3) + 21.3 * ghz,
    )
    sight = 0.45 + np.exp(-40 / 36) * 0.55
    powers = np.geomspace(1e-3, 1.0, 100_001)
    rates = [
        1e6 * np.maximum(np.log2(1 + powers * 10 ** (-loss / 10) / 1e-11), 0.1523)
        for loss in losses
    ]
    seconds = scenario.table.bits[0] * (sight / rates[0] + (1 - sight) / rates[1])
    best = (8.603 + seconds + 50.0 * powers * seconds).min()
    bound = lower_bound(scenario, num_tasks=7, distance_m=40.0)
    assert -bound.reward == pytest.approx(best, rel=1e-2) and -bound.reward <= best


def test_the_best_of_many_channels_with_or_without_sight_is_below_its_quantile():
    rng = np.random.default_rng(0)
    snr, shares = np.array([[30.0, 15.0], [33.0, 20.0]]), np.array([[0.6, 0.4], [0.1, 0.9]])
    std_db, counts = np.array([4.0, 7.8]), np.array([5, 3])
    rows = np.repeat([0, 1], counts)
    state = (rng.random((100_000, 8)) > shares[rows, 0]).astype(int)
    best = snr[rows, state] + std_db[state] * rng.standard_normal(state.shape)
    for probability, most in sum_rates(snr, shares, std_db, counts):
        within = (np.log2(1 + 10 ** (best.max(1) / 10)) <= most).mean()
        assert within == pytest.approx(probability, abs=0.01)


@pytest.mark.parametrize("mobility", ["random_waypoint", "gauss_markov"])
def test_devices_that_move_are_bounded_by_the_least_distance(mobility):
    scenario = Scenario(mobility=mobility, distance_range_m=(30.0, 90.0))
    bound, near = lower_bound(scenario), lower_bound(scenario, distance_m=30.0)
    assert bound.reward == near.reward and bound.distance_m is None and bound.num_tasks == 50
    for make in (LocalOnly, Neurosurgeon, RoundRobin):
        assert min(bound.gap(evaluate(make(scenario), episodes=10)).values()) >= 1.0


@pytest.mark.parametrize("draw", [False, True])
@pytest.mark.parametrize(
    "fields",
    [{}, {"profile": "si"}, {"num_devices": 1}, UNLIKE, {"num_devices": 12, "profile": "si"}],
    ids=["paper", "si", "alone", "unlike", "twelve"],
)
def test_no_policys_mean_is_below_it(fields, draw):
    scenario = Scenario(**fields)
    bound = lower_bound(scenario, draw=draw)
    for make in POLICIES:
        found = evaluate(make(scenario), episodes=20, draw=draw)
        for metric, gap in bound.gap(found).items():
            assert gap >= 1.0, (make.name, metric)


def test_one_device_alone_by_hand():
    # Local: 43.015 ms and 0.0409 J. The input, 4.816896 Mbit at 20 mW and more, over 1 MHz.
    scenario = Scenario(num_devices=1, num_servers=1, num_channels=1, shadowing_std_db=0.0)
    bits, bandwidth = scenario.table.bits[0], 1e6
    powers = np.geomspace(1e-3, 1.0, 200_001)
    seconds = bits / (bandwidth * np.log2(1.0 + powers * 50.0**-3 / 1e-9))
    offloaded = (8.603 + seconds + 50.0 * powers * seconds).min()
    assert offloaded < 43.015
    bound = lower_bound(scenario, num_tasks=7)
    # Powers are taken in intervals of a quarter of a dB.
    assert -bound.reward == pytest.approx(offloaded, rel=3e-3) and -bound.reward <= offloaded
    assert bound.cost == pytest.approx(-bound.reward * 7)
    # At full power, beside as many tasks on the MD as the server leaves it no time for: none.
    assert bound.latency_ms == pytest.approx(7 * (8.603 + seconds[-1]), rel=1e-4)


def test_the_server_is_what_three_devices_share_by_hand():
    # Without radio costs: 3(1 − x) tasks of 8.603 ms on one server, x tasks of 43.015 ms on each
    # MD beside the others' turn at the server: 43.015x + 8.603(1 − x) = 3 · 8.603(1 − x).
    scenario = Scenario(num_servers=1, bandwidth_hz=1e12, energy_weight=0.0, shadowing_std_db=0.0)
    x = 2 * 8.603 / (43.015 + 2 * 8.603)
    bound = lower_bound(scenario, num_tasks=50)
    assert bound.latency_ms / 50 == pytest.approx(3 * 8.603 * (1 - x), rel=1e-4)
    assert -bound.reward == pytest.approx(bound.latency_ms / 50)


def test_the_channel_is_what_devices_share_by_hand():
    # si, without a floor: at most one MD's bits at a time, at the best SNR.
    scenario = Scenario(
        profile="si", num_devices=40, num_servers=40, num_channels=1, partition="vertical",
        min_spectral_efficiency=0.0, energy_weight=0.0, shadowing_std_db=0.0, local_slowdown=1e4,
    )  # fmt: skip
    rate = scenario.bandwidth_hz * np.log2(1 + 10 ** (23 / 10) / 1e3 * 50.0**-3 / 1e-9)
    # An MD so slow sends its input: 40 of them, one after the other.
    assert lower_bound(scenario, num_tasks=1).latency_ms == pytest.approx(
        40 * scenario.table.bits[0] / rate * 1e3, rel=2e-2
    )


def test_the_latencies_of_the_papers_settings():
    found = [lower_bound(Scenario(num_devices=n)).latency_ms for n in (3, 4, 5, 6)]
    np.testing.assert_allclose(found, [594, 725, 836, 931], rtol=6e-3)


@pytest.mark.parametrize(
    "better",
    [
        {"bandwidth_hz": 4e7},
        {"servers": [{"count": 2, "speed": 2.0}]},
        {"num_servers": 4},
        {"local_slowdown": 2.5},
        {"noise_w": 1e-10},
        {"max_power_dbm": 33.0},
        {"energy_per_mmac_j": 1e-6},
        {"min_spectral_efficiency": 1.0},
    ],
    ids=lambda fields: next(iter(fields)),
)
@pytest.mark.parametrize("profile", ["paper", "si"])
def test_it_falls_with_every_improvement_of_the_network(profile, better):
    scenario = Scenario(profile=profile, num_devices=6)
    before, after = lower_bound(scenario), lower_bound(scenario.replace(**better))
    for metric in BOUNDED:
        was, now = (abs(getattr(bound, metric)) for bound in (before, after))
        assert now <= was * (1 + 2e-3), metric  # powers are taken in intervals


def test_equal_devices_are_as_one_and_the_order_does_not_matter():
    three, nine = (Scenario(num_devices=n, num_servers=n) for n in (3, 9))
    assert lower_bound(three).reward == pytest.approx(lower_bound(nine).reward)
    near_far, far_near = (
        lower_bound(three, num_tasks=tasks, distance_m=metres)
        for tasks, metres in (((3, 9, 9), (10.0, 90.0, 50.0)), ((9, 9, 3), (50.0, 90.0, 10.0)))
    )
    for metric in BOUNDED:
        assert getattr(near_far, metric) == pytest.approx(getattr(far_near, metric), rel=1e-5)


def test_devices_without_tasks_do_none():
    scenario = Scenario(
        num_devices=2, num_servers=1, devices=[{"count": 1}, {"count": 1, "local_slowdown": 1e-3}]
    )
    slow = lower_bound(scenario, num_tasks=(5, 0))
    assert slow.latency_ms > 5 * 8.603 > lower_bound(scenario, num_tasks=(0, 5)).latency_ms


def test_hundreds_of_equal_devices_are_one_group():
    bound = lower_bound(Scenario(num_devices=300))
    local = 43.015 + 50 * 0.04089184256
    assert 0.95 * local < -bound.reward < local


@pytest.mark.parametrize("std_db", [0.3, 8.0])
@pytest.mark.parametrize("floor", [0.0, 0.1523])
def test_the_least_air_time_is_a_mean_from_below(std_db, floor):
    scenario = Scenario(shadowing_std_db=std_db, min_spectral_efficiency=floor)
    snr = np.array([0.0, 7.3, 20.0, 45.0])
    # Quantiles in the middle of equal shares: the mean to many digits.
    from scipy.stats import norm

    shadowing = std_db * norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    efficiency = np.log2(1 + 10 ** ((snr[:, None] + shadowing) / 10))
    exact = (1.0 / np.maximum(efficiency, floor)).mean(1)
    found = least_air_time(snr, scenario, std_db)
    assert (found <= exact).all()
    np.testing.assert_allclose(found, exact, rtol=1e-2)


def test_every_power_costs_more_than_a_mix_of_the_best_trades():
    scenario = Scenario(shadowing_std_db=0.0)
    air, energy = best_trades((1e-3, 1.0), 50.0, 1e-9, scenario)
    assert (np.diff(air) > 0).all() and (np.diff(energy) < 0).all()
    powers = np.geomspace(1e-3, 1.0, 997)
    seconds = 1.0 / np.log2(1 + powers * 50.0**-3 / 1e-9)
    for price in (0.0, 1.0, 50.0, 1e4):
        assert (air + price * energy).min() <= (seconds + price * powers * seconds).min()


@given(
    snr=st.lists(st.floats(-20.0, 40.0), min_size=1, max_size=5),
    shares=st.lists(st.floats(0.0, 1.0), min_size=5, max_size=5),
)
def test_no_powers_give_all_devices_of_a_channel_more_together(snr, shares):
    column = np.array(snr)[:, None]
    one = np.ones(len(snr), int)
    [(probability, most)] = sum_rates(column, np.ones(column.shape), np.zeros(1), one)
    received = 10 ** (np.array(snr) / 10) * shares[: len(snr)]
    total = np.log2(1 + received / (1 + received.sum() - received)).sum()
    assert probability == 1.0 and total <= most * (1 + 1e-9)


def test_the_best_of_many_channels_is_below_its_quantile():
    rng = np.random.default_rng(0)
    snr, counts = np.array([20.0, 35.0]), np.array([8, 2])
    best = np.repeat(snr, counts) + 8.0 * rng.standard_normal((100_000, 10))
    for probability, most in sum_rates(snr[:, None], np.ones((2, 1)), np.array([8.0]), counts):
        # At these SNRs one MD alone gets most.
        within = (np.log2(1 + 10 ** (best.max(1) / 10)) <= most).mean()
        assert within == pytest.approx(probability, abs=0.01)


@dataclasses.dataclass(frozen=True)
class OwnLaw(TaskWindowMDP):
    env_id = "own_law_v0"

    def task_rewards(self, outcome):
        return 2.0 * super().task_rewards(outcome)


@pytest.mark.parametrize(
    ("mdp", "reason"),
    [
        (OwnLaw(Scenario()), r"own_law_v0 has a law of its own \(task_rewards\)"),
        (TimeSlotMDP(Scenario()), "a time slot draws shadowing anew under a transmission"),
        (
            TaskWindowMDP(Scenario(shadowing="correlated")),
            "correlated shadowing is common to all MDs",
        ),
        (
            TaskWindowMDP(Scenario(path_loss="uma", mobility="random_waypoint")),
            "the nearest place need not be the best one by path_loss 'uma'; give distances",
        ),
    ],
)
def test_where_there_is_none_it_says_why(mdp, reason):
    with pytest.raises(MecError, match=f"there is no bound on cost: {reason}"):
        lower_bound(mdp)


def test_it_holds_for_windows_of_any_size_and_for_no_other_network():
    scenario = Scenario(max_window=3)
    bound = lower_bound(scenario)
    assert bound.holds_for(TaskWindowMDP(scenario.replace(max_window=9)))
    assert not bound.holds_for(TaskWindowMDP(scenario.replace(bandwidth_hz=2e6)))
    assert not bound.holds_for(TimeSlotMDP(scenario))
    assert not bound.holds_for(OwnLaw(scenario))


def row(table, name):
    return next(line for line in table.splitlines() if line.startswith(name)).split()


def test_it_is_a_row_of_the_table_beside_the_gaps_to_it():
    scenario = Scenario()
    evaluations = [evaluate(make(scenario), episodes=3) for make in (LocalOnly, Neurosurgeon)]
    bound = lower_bound(scenario)
    table = comparison_table(evaluations, bound=bound)
    assert table.count("/bound") == 3 and "× of the bound" in table
    gap = bound.gap(evaluations[1])
    cells = [cell for cell in row(table, "neurosurgeon") if cell.endswith("×")]
    assert cells == [f"{gap[metric]:.2f}×" for metric in BOUNDED]
    assert row(table, "bound")[1] == f"{bound.reward:.2f}" and row(table, "bound")[-3:] == ["-"] * 3

    planner = dataclasses.replace(evaluations[1], policy="planner")
    table = comparison_table([evaluations[0], planner], bound=bound)
    assert table.count("/planner") == 4 and "/bound" not in table
    ratio = bound.reward / planner["reward"].mean
    assert row(table, "bound")[2] == f"{ratio:.2f}×"


def test_drawn_distances_are_bounded_by_the_least():
    scenario = Scenario(distance_range_m=(30.0, 90.0))
    drawn, near = lower_bound(scenario, draw=True), lower_bound(scenario, distance_m=30.0)
    assert drawn.reward == pytest.approx(near.reward)
    assert drawn.distance_m is None and drawn.num_tasks is None and near.distance_m == 30.0
    evaluations = [evaluate(LocalOnly(scenario), episodes=2, draw=True)]
    assert "with all at 30 m" in comparison_table(evaluations, bound=drawn)

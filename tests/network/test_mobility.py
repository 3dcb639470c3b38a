"""How MDs move: ranges and speeds, the stationary regime, traces."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rllib_mec.errors import MecError
from rllib_mec.network.places import places
from rllib_mec.network.scenario import Scenario

KEYS = np.random.default_rng(0).integers(0, 1 << 63, 4000, dtype=np.uint64)
MOVING = {
    "random_waypoint": {"speed_range_mps": (0.5, 20.0), "pause_range_s": (0.0, 6.0)},
    "gauss_markov": {"mean_speed_mps": 10.0},
}


def scenario_of(law, ring=(5.0, 100.0), num_devices=1, **fields):
    own = {**MOVING[law], **fields}
    return Scenario(mobility=law, num_devices=num_devices, distance_range_m=ring, **own)


def at(scenario, seconds, keys=KEYS):
    time_ms = np.full(len(keys), 1e3 * seconds)
    distances, directions = places(scenario, keys, keys, time_ms)
    return distances, directions


def plane(where):
    distances, directions = where
    return distances * np.exp(1j * directions)


@pytest.mark.parametrize("law", MOVING)
@pytest.mark.parametrize("ring", [(5.0, 100.0), (60.0, 100.0), (98.0, 100.0)])
def test_all_stay_in_the_ring_and_none_jumps(law, ring):
    scenario = scenario_of(law, ring)
    step_s, keys = 0.02, KEYS[:200]
    track = np.array([plane(at(scenario, s, keys))[:, 0] for s in np.arange(0.0, 6.0, step_s)])
    distances = np.abs(track)
    assert (distances >= ring[0] - 1e-9).all() and (distances <= ring[1] + 1e-9).all()
    speeds = np.abs(np.diff(track, axis=0)) / step_s
    most = 20.0 if law == "random_waypoint" else 60.0
    assert speeds.max() <= most + 1e-6
    assert speeds.max() > 0.5 * most


def test_waypoints_are_reached_at_the_speeds_asked_for_and_after_pauses_of_the_length():
    scenario = scenario_of("random_waypoint", speed_range_mps=(2.0, 3.0), pause_range_s=(4.0, 5.0))
    step_s = 0.05
    times = np.arange(0.0, 150.0, step_s)
    num_pauses = 0
    for key in KEYS[:8]:
        keys = np.full(len(times), key)
        track = plane(places(scenario, keys, keys, 1e3 * times))[:, 0]
        speed = np.abs(np.diff(track)) / step_s
        stands = speed < 1e-9
        ends = np.flatnonzero(np.diff(stands.astype(int)))
        for start, end in itertools.pairwise(ends):
            if stands[end]:  # a whole pause, but for the steps at its ends
                assert 3.9 <= (end - start) * step_s <= 5.05
                num_pauses += 1
            elif (np.abs(track[start : end + 2]) > 5.1).all():  # a whole leg, not round the middle
                assert ((speed[start + 2 : end] >= 2.0) & (speed[start + 2 : end] <= 3.0)).all()
    assert num_pauses > 10


def test_random_waypoint_is_stationary_from_the_start():
    scenario = scenario_of("random_waypoint")
    dt, found = 0.01, []
    for seconds in (0.0, 100.0, 1000.0):
        distances = at(scenario, seconds)[0]
        before, after = (plane(at(scenario, seconds + s)) for s in (0.0, dt))
        speed = np.abs(after - before) / dt
        found.append([distances.mean(), (distances**2).mean(), speed.mean(), (speed == 0).mean()])
    scale = np.array([25.0, 3000.0, 6.0, 0.5]) / len(KEYS) ** 0.5  # standard errors, about
    for later in found[1:]:
        assert (np.abs(np.array(later) - found[0]) < 6 * scale).all(), found
    # A naive start at waypoints would be at the mean speed of a leg, 10.25 m/s, and slow down.
    # By cycles: E[length] / (E[length] E[1/v] + E[pause]), and pauses likewise. The mean length of
    # a leg on a disc of radius 100 is 90.54 m (128 R / 45 π); the hole of 5 m hardly counts.
    cycle_s = 90.54 * np.log(40.0) / 19.5 + 3.0
    np.testing.assert_allclose(found[0][2], 90.54 / cycle_s, rtol=0.05)
    np.testing.assert_allclose(found[0][3], 3.0 / cycle_s, rtol=0.12)


def test_a_lone_speed_is_kept():
    scenario = scenario_of(
        "random_waypoint", (1.0, 100.0), speed_range_mps=(1.5, 1.5), pause_range_s=(0.0, 0.0)
    )
    speed = np.abs(plane(at(scenario, 50.01)) - plane(at(scenario, 50.0))) / 0.01
    assert np.median(speed) == pytest.approx(1.5)
    assert (speed <= 1.5 + 1e-6).all()


def test_gauss_markov_has_its_mean_speed_and_its_memory():
    scenario = scenario_of(
        "gauss_markov", (1.0, 1e6), mean_speed_mps=10.0, velocity_memory=0.8,
        velocity_interval_s=2.0,
    )  # fmt: skip

    def velocity(seconds):  # far from the edges: as it is between two kicks
        return (plane(at(scenario, seconds + 1.0)) - plane(at(scenario, seconds)))[:, 0]

    first, next_, third = (velocity(s) for s in (100.5, 102.5, 104.5))
    assert np.abs(first).mean() == pytest.approx(10.0, rel=0.035)
    power = (np.abs(first) ** 2).mean()
    assert power == pytest.approx(4.0 / np.pi * 100.0, rel=0.07)
    for later, memory in ((next_, 0.8), (third, 0.64)):
        assert (first * later.conj()).real.mean() / power == pytest.approx(memory, abs=0.04)
    np.testing.assert_allclose(velocity(100.9), first, rtol=1e-5)  # none within an interval


def test_gauss_markov_stays_spread_evenly_off_the_edges():
    scenario = scenario_of("gauss_markov", (30.0, 100.0))
    for seconds in (0.0, 60.0):
        area = (at(scenario, seconds)[0] ** 2 - 900.0) / 9100.0  # uniform in [0, 1]
        np.testing.assert_allclose(np.quantile(area, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.04)
        directions = at(scenario, seconds)[1]
        assert np.abs(np.exp(1j * directions).mean()) < 4.5 / len(KEYS) ** 0.5


@pytest.mark.parametrize("law", [*MOVING, "uniform"])
def test_a_place_depends_on_seed_device_and_time_alone(law):
    few = {} if law == "uniform" else MOVING[law]
    three, two = (
        Scenario(mobility=law, num_devices=n, distance_range_m=(5.0, 100.0), **few) for n in (3, 2)
    )
    keys, times = KEYS[:6], np.array([0.0, 10.0, 1e4, 33.0, 7e4, 5.0])
    whole = places(three, keys, keys, times)
    for b in range(6):
        own = places(two, keys[b : b + 1], keys[b : b + 1], times[b : b + 1])
        for one, of_all in zip(own, whole, strict=True):
            np.testing.assert_array_equal(one[0], of_all[b, :2])
    assert len(np.unique(whole[0])) == 18


def write(folder, *lines):
    path = folder / "walk.csv"
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


HEAD = "time_s,device,x_m,y_m"


def test_a_trace_is_followed_in_straight_lines_from_anywhere_on(tmp_path):
    path = write(
        tmp_path, HEAD, "0,0,10,0", "1,1,0,-50", "2,md_0,20,0", "4,0,20,40", "", "8,1,0,-50"
    )
    scenario = Scenario(mobility=path, num_devices=2)
    # Where an episode begins is drawn; over time it goes on from there, and round.
    where = plane(at(scenario, 0.0, KEYS[:2000]))
    assert (where[:, 1] == pytest.approx(-50j)) and len(np.unique(where[:, 0])) > 900
    track = {0.0: 10, 1.0: 15, 2.0: 20, 3.0: 20 + 20j, 4.0: 20 + 40j, 5.0: 20 + 40j}
    key = KEYS[:1]
    path_of = np.array([plane(at(scenario, s, key))[0, 0] for s in np.arange(0.0, 16.0, 0.01)])
    for place in track.values():
        assert np.abs(path_of - place).min() < 0.11
    np.testing.assert_allclose(path_of[:800], path_of[800:], atol=1e-6)  # it begins anew


def test_who_stands_at_one_line_stays_there(tmp_path):
    scenario = Scenario(mobility=write(tmp_path, HEAD, "0,0,3,4"), num_devices=1)
    assert (at(scenario, 123.0)[0] == 5.0).all()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], f":1: the first line must be {HEAD}, but is ''"),
        ([HEAD], ":1: the trace has no lines after its first"),
        (["time_s,device", "0,0"], f":1: the first line must be {HEAD}, but is 'time_s,device'"),
        ([HEAD, "0,0,10,0"], ": the trace has no line of device 1"),
        ([HEAD, "0,2,10,0"], ":2: device must be one of 0 to 1, but is '2'"),
        ([HEAD, "1,0,10,0", "0.5,1,10,0"], ":3: time_s 0.5 must not be before 1"),
        ([HEAD, "1,0,10,0", "1,0,11,0"], ":3: device 0 has a place at this time already"),
        ([HEAD, "1,0,ten,0"], r":2: x_m and y_m must be metres, but are \['ten', '0'\]"),
        ([HEAD, "1,0,inf,0"], ":2: x_m and y_m must be metres"),
        (
            [HEAD, "1,0,90,90"],
            r":2: \(90, 90\) is 127.279 m .* outside distance_range_m \(1, 100\)",
        ),
        ([HEAD, "1,0,0,0"], r":2: \(0, 0\) is 0 m"),
        ([HEAD, "1,0,10"], f":2: expected {HEAD}, but got '1,0,10'"),
    ],
)
def test_a_bad_trace_is_refused_in_one_line_with_its_number(tmp_path, lines, message):
    with pytest.raises(MecError, match=f"walk.csv{message}") as raised:
        Scenario(mobility=write(tmp_path, *lines), num_devices=2)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mobility": "random_waypont"}, "unknown mobility 'random_waypont': did you mean 'random"),
        ({"mobility": "walk.csv"}, "mobility must be an absolute path.*did you mean '/"),
        ({"mobility": "/nowhere/walk.csv"}, "mobility: cannot read the trace '/nowhere/walk.csv'"),
        ({"mobility": 3}, "mobility must be a text"),
        ({"mobility": ""}, "mobility must be one of"),
        (
            {"mobility": "random_waypoint", "speed_range_mps": (0.0, 2.0)},
            "speed_range_mps.0 must be at least 0.01, but is 0.0",
        ),
        (
            {"mobility": "random_waypoint", "speed_range_mps": (3.0, 2.0)},
            r"speed_range_mps must be least <= largest, but is \(3.0, 2.0\)",
        ),
        (
            {"mobility": "random_waypoint", "pause_range_s": (3.0, 2.0)},
            "pause_range_s must be least <= largest",
        ),
        ({"mobility": "gauss_markov", "velocity_memory": 1.0}, "velocity_memory must be less than"),
        ({"mobility": "gauss_markov", "distance_range_m": (9.0, 9.0)}, "mobility 'gauss_markov' n"),
        ({"mean_speed_mps": 2.0}, "mean_speed_mps has no effect with mobility 'uniform'"),
        (
            {"mobility": "gauss_markov", "pause_range_s": (0.0, 2.0)},
            "pause_range_s has no effect with mobility 'gauss_markov': leave it out, or choose",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(fields, message):
    with pytest.raises(MecError, match=f"^{message}") as raised:
        Scenario(**fields)
    assert "\n" not in str(raised.value)

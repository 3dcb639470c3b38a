"""When tasks arrive: Poisson and bursty processes, and traces."""

from __future__ import annotations

import numpy as np
import pytest

from rllib_mec.envs import TaskStreamMDP
from rllib_mec.errors import MecError
from rllib_mec.network.arrivals import random_arrivals, read_trace, trace_arrivals

KEYS = np.arange(40, dtype=np.uint64)


def counts(times):
    return np.isfinite(times).sum(2)


def test_a_poisson_process_has_its_mean_and_its_spread():
    times = random_arrivals(KEYS, np.array([50.0, 5.0, 0.0]), 40_000.0)
    found = counts(times)
    np.testing.assert_allclose(found.mean(0), [2000.0, 200.0, 0.0], rtol=0.02)
    # Variance is the mean, with 40 worlds to within a third or so.
    assert found[:, 0].var() == pytest.approx(2000.0, rel=0.5)
    gaps = np.diff(times[:, 0, :1500], axis=1)
    assert gaps.mean() == pytest.approx(20.0, rel=0.02) and gaps.std() == pytest.approx(20.0, 0.03)
    assert (np.diff(times[:, 0, :1500], axis=1) > 0).all() and np.nanmin(times) > 0


def test_bursts_have_the_same_mean_and_more_spread():
    how = {"burst_factor": 4.0, "burst_share": 0.1, "burst_mean_ms": 500.0}
    times = random_arrivals(KEYS, np.array([50.0]), 100_000.0, **how)
    assert counts(times).mean() == pytest.approx(5000.0, rel=0.05)
    per_window = np.concatenate(
        [np.histogram(own[0][np.isfinite(own[0])], 400, (0, 1e5))[0] for own in times]
    )
    # 250 ms windows: 12.5 in the mean, 50 in a burst.
    assert per_window.var() > 3 * per_window.mean()
    plain = random_arrivals(KEYS, np.array([50.0]), 100_000.0)
    of_plain = np.histogram(plain[0, 0], 400, (0, 1e5))[0]
    assert of_plain.var() == pytest.approx(of_plain.mean(), rel=0.3)


def test_a_burst_share_of_all_its_tasks_leaves_the_quiet_times_empty():
    how = {"burst_factor": 10.0, "burst_share": 0.1, "burst_mean_ms": 200.0}
    [[times]] = random_arrivals(KEYS[:1], np.array([100.0]), 60_000.0, **how)
    gaps = np.diff(times[np.isfinite(times)])
    assert (gaps > 300.0).sum() > 10 and np.median(gaps) < 2.0


def test_a_device_and_world_have_the_same_times_whoever_is_beside_them():
    whole = random_arrivals(KEYS[:5], np.array([30.0, 70.0]), 3000.0)
    one = random_arrivals(KEYS[3:4], np.array([30.0]), 3000.0)
    np.testing.assert_array_equal(one[0, 0], whole[3, 0, : one.shape[2]])
    longer = random_arrivals(KEYS[3:4], np.array([30.0]), 6000.0)
    expected = one[0, 0][np.isfinite(one[0, 0])]
    np.testing.assert_array_equal(longer[0, 0, : len(expected)], expected)


def write(folder, *lines):
    path = folder / "trace.csv"
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def test_a_trace_is_played_as_it_is(tmp_path):
    path = write(tmp_path, "time_s,device", "0,0", "0.25, md_1", "", "0.25,1", "1.5,0")
    mdp = TaskStreamMDP.from_dict({"num_devices": 2, "arrivals": path, "horizon_ms": 2000.0})
    times = mdp.make(2, 4).tasks.arrival_ms
    np.testing.assert_array_equal(times, [[[0.0, 1500.0], [250.0, 250.0]]] * 2)
    assert "arrivals trace" in str(mdp)


def test_of_a_long_trace_an_episode_plays_a_stretch(tmp_path):
    times = read_trace(write(tmp_path, "time_s,device", *(f"{i},0" for i in range(11))), 1)
    found = trace_arrivals(times, np.array([0.0, 0.55, 1.0]), 4000.0)
    expected = [[0, 1e3, 2e3, 3e3], [700.0, 1700.0, 2700.0, 3700.0], [0, 1e3, 2e3, 3e3]]
    np.testing.assert_allclose(found[:, 0], expected)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], ":1: the first line must be time_s,device, but is ''"),
        (["0.1,0"], ":1: the first line must be time_s,device, but is '0.1,0'"),
        (["time_s,device"], ":1: the trace has no lines after its first"),
        (["time_s,device", "0.1,0", "0.05,0"], ":3: .*0.05 .*0.1"),
        (["time_s,device", "0.1,2"], ":2: device must be one of 0 to 1, but is '2'"),
        (["time_s,device", "0.1,-1"], ":2: device must be one of 0 to 1, but is '-1'"),
        (["time_s,device", "0.1,phone"], ":2: device must be one of 0 to 1, but is 'phone'"),
        (
            ["time_s,device", "-1,0"],
            ":2: time_s must be a number of seconds from 0 to 1e.12, .*'-1'",
        ),
        (
            ["time_s,device", "nan,0"],
            ":2: time_s must be a number of seconds from 0 to 1e.12, .*'nan'",
        ),
        (["time_s,device", "inf,0"], ":2: time_s must be a number"),
        (["time_s,device", "soon,0"], ":2: time_s must be a number"),
        (["time_s,device", "1e308,0"], ":2: time_s must be a number .*'1e308'"),
        (["time_s,device", "0.1," + "9" * 5000], ":2: device must be one of 0 to 1, .*…'$"),
        (["time_s,device", "0" * 200_000 + ",0"], ":2: no line of a CSV file"),
        (["time_s,device", "1,0,9"], ":2: expected time_s,device, but got '1,0,9'"),
        (["time_s,device", "1"], ":2: expected time_s,device, but got '1'"),
    ],
)
def test_a_bad_trace_is_refused_in_one_line_with_its_number(tmp_path, lines, message):
    path = write(tmp_path, *lines)
    with pytest.raises(MecError, match=f"trace.csv{message}") as raised:
        TaskStreamMDP.from_dict({"num_devices": 2, "arrivals": path})
    assert "\n" not in str(raised.value)


def test_a_trace_that_cannot_be_read_is_refused_in_one_line(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path, "/a\0.csv", "/\ud800.csv"):
        with pytest.raises(MecError, match="cannot read the trace"):
            read_trace(str(path), 2)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MecError, match="cannot read the trace"):
        read_trace(str(tmp_path / "binary.csv"), 2)


def test_a_trace_that_a_spreadsheet_wrote_is_read(tmp_path):
    (tmp_path / "sheet.csv").write_bytes(b"\xef\xbb\xbftime_s,device\r\n0.5,md_1\r\n")
    assert [own.tolist() for own in read_trace(str(tmp_path / "sheet.csv"), 2)] == [[], [500.0]]

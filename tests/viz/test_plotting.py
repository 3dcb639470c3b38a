"""The common style: bands over seeds, looks that can be told apart, files that can be written."""

import sys

import numpy as np
import pytest

from rllib_mec.errors import MecError
from rllib_mec.evaluation import Interval
from rllib_mec.viz import plotting


def test_the_band_is_students_t_interval_over_seeds():
    values = np.array([[1.0, 4.0, 7.0], [3.0, 4.0, np.nan], [5.0, np.nan, np.nan]])
    mean, half_width = plotting.mean_and_half_width(values)
    assert mean.tolist() == [3.0, 4.0, 7.0]
    assert half_width[0] == pytest.approx(Interval.of([1.0, 3.0, 5.0]).half_width)
    assert half_width[1] == 0.0
    assert np.isnan(half_width[2])  # of one seed nothing is known


def test_two_seeds_one_apart_have_a_half_width_of_12_7_halves():
    _, half_width = plotting.mean_and_half_width(np.array([[0.0], [1.0]]))
    assert half_width[0] == pytest.approx(12.706 / 2, rel=1e-4)


def test_curves_of_unequal_lengths_meet_on_a_common_axis():
    short = np.array([0.0, 2.0]), np.array([10.0, 20.0])
    long = np.array([1.0, 3.0]), np.array([5.0, 7.0])
    x, values = plotting.on_common_axis([short, long])
    assert x.tolist() == [0.0, 1.0, 2.0, 3.0]
    np.testing.assert_array_equal(values, [[10, 15, 20, np.nan], [np.nan, 5, 6, 7]])


def draw(**keywords):
    with plotting.style():
        figure, (axes,) = plotting.new_figure()
        plotting.draw_band(axes, np.arange(3.0), **keywords)
        figure.canvas.draw()
    return axes


def test_a_band_does_not_stretch_the_axes():
    axes = draw(values=np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]), label="EMH-PPO")
    low, high = axes.get_ylim()
    assert -0.2 < low < 0.0 and 1.0 < high < 1.2  # though the band reaches from -5.9 to 6.9
    (band,) = axes.collections
    assert band.get_datalim(axes.transData).height == pytest.approx(12.7, abs=0.1)


def test_the_mean_is_drawn_in_the_looks_of_its_label():
    axes = draw(values=np.array([[1.0, 2.0, 6.0], [3.0, 2.0, 0.0]]), label="EMH-PPO")
    mean, *seeds = axes.get_lines()
    np.testing.assert_array_equal(mean.get_ydata(), [2.0, 2.0, 3.0])
    assert mean.get_color() == plotting.NAMED_LOOKS["EMH-PPO"]["color"]
    assert len(seeds) == 2 and axes.get_legend_handles_labels()[1] == ["EMH-PPO"]


def test_one_seed_has_no_band():
    assert not draw(values=np.array([1.0, 2.0, 6.0])).collections


def test_series_can_be_told_apart_without_colour():
    looks = [*plotting.NAMED_LOOKS.values(), *(plotting.look(index=i) for i in range(8))]
    shapes = {(str(look["linestyle"]), look["marker"]) for look in looks}
    colours = {look["color"] for look in looks}
    assert len(shapes) == len({(str(x["linestyle"]), x["marker"], x["color"]) for x in looks})
    assert len(colours) >= 8
    assert plotting.look("planner", 3) == plotting.NAMED_LOOKS["planner"]
    assert plotting.look("someone's own", 3) == plotting.look(index=3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("curves.xyz", "must end with one of .png, .pdf"),
        ("curves", "must end with one of"),
        ("no/such/curves.png", "there is no folder"),
        ("folder.png", "is a folder"),
    ],
)
def test_what_cannot_be_written_is_said_before_long_work(tmp_path, name, message):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(MecError, match=message):
        plotting.check_target(tmp_path / name)


def test_a_missing_matplotlib_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MecError, match=r"pip install 'rllib_mec\[plot\]'"), plotting.style():
        pass

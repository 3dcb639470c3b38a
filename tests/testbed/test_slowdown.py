"""Computing as on a slower device: what is slept, and what it is counted from."""

import pytest

from rllib_mec.testbed import slowdown as slowdown_module
from rllib_mec.testbed.slowdown import Pace, SlowedWork


@pytest.fixture
def clocks(monkeypatch):
    """A machine that is busy half of the time: 3 s of CPU time take 6 s."""

    class Clocks:
        wall_s = cpu_s = 0.0

        def compute(self, cpu_s):
            self.cpu_s += cpu_s
            self.wall_s += 2 * cpu_s

        def perf_counter(self):
            return self.wall_s

        def thread_time(self):
            return self.cpu_s

        def sleep(self, seconds):
            self.wall_s += seconds

    clocks = Clocks()
    monkeypatch.setattr(slowdown_module, "time", clocks)
    return clocks


def test_work_takes_the_slowdown_times_its_cpu_time_however_busy_the_machine(clocks):
    work = SlowedWork(5.0)
    assert work.do("head", lambda: clocks.compute(3.0) or "result") == "result"
    assert work.spent_ms == 15e3
    work.do("head", lambda: clocks.compute(1.0))
    assert work.spent_ms == clocks.wall_s * 1e3 == 20e3


def test_a_machine_that_is_too_busy_for_it_takes_what_it_takes(clocks):
    work = SlowedWork(1.5)
    work.do("head", lambda: clocks.compute(3.0))
    assert work.spent_ms == 6e3


def test_without_a_slowdown_nothing_is_slept(clocks):
    work = SlowedWork(1.0)
    work.do("head", lambda: clocks.compute(3.0))
    assert work.spent_ms == 6e3


def test_a_fixed_pace_counts_instead_of_what_is_measured(clocks):
    pace = Pace()
    for cpu_s in (3.0, 2.0, 9.0):
        SlowedWork(4.0, pace).do("head", lambda cpu_s=cpu_s: clocks.compute(cpu_s))
    assert pace.least_s() == {"head": 2.0}
    pace.fix(pace.least_s())
    work = SlowedWork(4.0, pace)
    work.do("head", lambda: clocks.compute(3.0))  # more than alone: others are in its caches
    assert work.spent_ms == 8e3
    work.do("tail", lambda: clocks.compute(3.0))  # never measured before
    assert work.spent_ms == 8e3 + 12e3

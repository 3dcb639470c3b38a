import signal

import pytest
import ray
from ray import tune

from rllib_mec.errors import MecError
from rllib_mec.experiments.ray_session import RayOptions, started


def test_what_the_dashboard_needs_is_said(monkeypatch):
    def init(**options):
        raise Exception("Cannot include dashboard with missing packages.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(MecError, match=r"Ray cannot start: Cannot.*`pip install 'ray\[default\]'`"):
        with started(RayOptions(dashboard=True), {"CPU": 1}, verbosity=0):
            pass


@pytest.mark.slow
def test_ctrl_c_works_as_before_after_tune_has_run(ray_session, tmp_path, monkeypatch):
    monkeypatch.delenv("TUNE_DISABLE_SIGINT_HANDLER", raising=False)
    before = signal.getsignal(signal.SIGINT)
    with started(RayOptions(), {"CPU": 1}, verbosity=0):
        tune.run(lambda config: {"done": True}, storage_path=str(tmp_path), verbose=0)
        assert signal.getsignal(signal.SIGINT) is not before  # Tune leaves its own
    assert signal.getsignal(signal.SIGINT) is before

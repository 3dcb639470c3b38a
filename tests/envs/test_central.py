"""One agent for all MDs: Gymnasium's checks, and the same episodes as with an agent for each."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import rllib_mec  # noqa: F401
from rllib_mec.envs import task_window_v0
from rllib_mec.envs.central import CentralEnv
from rllib_mec.envs.wrappers import WithoutInfos
from rllib_mec.errors import MecError
from rllib_mec.registry import ENVIRONMENTS

IDS = {
    "mec_task_window_v0": "rllib_mec/TaskWindow-v0",
    "mec_task_stream_v0": "rllib_mec/TaskStream-v0",
    "mec_time_slot_v0": "rllib_mec/TimeSlot-v0",
}
SHORT = {"num_devices": 2, "mean_tasks": 3.0}
VISITS = {"visits": "random", "stay_ms": 400.0, "num_devices": 4, "horizon_ms": 2000.0}

# Queues, drawn from a Poisson distribution, have no upper bound.
pytestmark = pytest.mark.filterwarnings("ignore:.*maximum value is infinity")


def test_every_environment_has_its_id():
    ours = [name for name in gymnasium.registry if name.startswith("rllib_mec/")]
    assert sorted(ours) == sorted(IDS.values())
    assert IDS.keys() == ENVIRONMENTS.keys()


@pytest.mark.parametrize("actions", [{}, {"actions": "continuous", "fixed_partition": 1}], ids=str)
@pytest.mark.parametrize("name", IDS.values())
def test_gymnasium_takes_it(name, actions):
    check_env(gymnasium.make(name, **SHORT, **actions).unwrapped)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [(name, SHORT) for name in IDS] + [("mec_task_stream_v0", VISITS)],
    ids=str,
)
def test_it_plays_what_agents_of_their_own_play(name, arguments):
    central = CentralEnv(name, **arguments)
    each = ENVIRONMENTS.load(name)(actions="flat", **arguments)
    state, info = central.reset(seed=3)
    each.reset(seed=3)
    central.action_space.seed(0)
    over, steps = False, 0
    while not over:
        np.testing.assert_array_equal(state, each.state())
        action = central.action_space.sample(mask=info["action_mask"])
        rows = action.reshape(len(each.possible_agents), -1)
        acting = each.agents
        played = {agent: rows[each.possible_agents.index(agent)] for agent in acting}
        _, rewards, _, truncations, infos = each.step(played)
        state, reward, terminated, truncated, info = central.step(action)
        assert reward == rewards[acting[0]]
        assert info["window_size"].sum() == sum(infos[agent]["window_size"] for agent in acting)
        assert info["latency_ms"] == infos[acting[0]]["latency_ms"]
        assert truncated == any(truncations.values())
        over, steps = terminated or truncated, steps + 1
        assert over == (not each.agents)
    assert steps > 1


def test_masks_are_those_of_the_columns():
    env = CentralEnv(memory_mb=60.0, num_devices=2)
    with pytest.raises(MecError, match="after reset"):
        env.action_masks()
    _, info = env.reset(seed=0)
    assert len(info["action_mask"]) == len(env.action_space.nvec)
    assert env.action_masks().shape == (env.action_space.nvec.sum(),)
    assert not env.action_masks().all()  # 60 MB do not hold all of ResNet-50
    continuous = CentralEnv(actions="continuous", fixed_partition=0)
    assert "action_mask" not in continuous.reset(seed=0)[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"actions": "dict"}, "must be 'flat' or 'continuous' where one agent decides for all"),
        ({"observe_mask": True}, "masks are in info"),
        ({"env": "mec_task_windw_v0"}, "did you mean 'mec_task_window_v0'"),
        ({"num_device": 3}, "did you mean 'num_devices'"),
    ],
)
def test_bad_arguments_are_one_line(arguments, message):
    with pytest.raises(MecError, match=message) as error:
        CentralEnv(**arguments)
    assert "\n" not in str(error.value)


def test_an_action_of_another_size_is_refused():
    env = CentralEnv(num_devices=2)
    env.reset(seed=0)
    with pytest.raises(MecError, match=r"the rows of 2 MDs one after the other, but has \(3,\)"):
        env.step(np.zeros(3, dtype=int))


def test_for_people_each_step_is_printed(capsys):
    env = gymnasium.make("rllib_mec/TaskWindow-v0", render_mode="human", **SHORT)
    env.reset(seed=0)
    assert capsys.readouterr().out == ""
    env.step(env.action_space.sample())
    printed = capsys.readouterr().out
    assert "md_1 |" in printed and "transmission" in printed
    assert env.render() is None


def test_importing_the_package_imports_no_gymnasium():
    code = "import sys, rllib_mec; sys.exit('gymnasium' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_infos_can_be_left_away():
    env = WithoutInfos(task_window_v0.parallel_env(**SHORT))
    _, infos = env.reset(seed=0)
    assert infos == {"md_0": {}, "md_1": {}}
    actions = {agent: env.action_space(agent).sample() for agent in env.agents}
    assert env.step(actions)[-1] == infos

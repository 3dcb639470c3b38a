"""Doors for a user's own parts: one name, known everywhere, refused in one line if it is bad."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import rllib_mec
from rllib_mec.envs import TaskWindowMDP
from rllib_mec.envs.mdp import MDP
from rllib_mec.envs.task_window_v0 import TaskWindowEnv
from rllib_mec.errors import MecError
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import LocalOnly, Policy
from rllib_mec.registry import ENVIRONMENTS, POLICIES, make_mdp, make_policy

ROOT = Path(rllib_mec.__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class OwnWindows(TaskWindowMDP):
    """Task windows under another name, with a field of its own."""

    env_id = "own_windows_v0"

    bonus: float = 1.0


class Twice(LocalOnly):
    """A policy."""

    name = "twice"


def tiny_dnn():
    from torch import nn

    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 5))


def no_dnn():
    return 3


def needs_an_argument(width):
    return width


def test_an_mdp_of_ones_own_is_an_environment_by_its_id():
    assert rllib_mec.register_env(OwnWindows) is OwnWindows
    assert "own_windows_v0" in ENVIRONMENTS and "own_windows_v0" in list(ENVIRONMENTS)
    mdp = make_mdp("own_windows_v0", {"bonus": 2.0, "num_devices": 2, "render_mode": "ansi"})
    assert mdp == OwnWindows(Scenario(num_devices=2), bonus=2.0)
    env = ENVIRONMENTS.load("own_windows_v0")(num_devices=2, bonus=3.0)
    assert env.metadata["name"] == "own_windows_v0" and env.mdp.bonus == 3.0
    assert ENVIRONMENTS.load("own_windows_v0") is type(env)


def test_a_class_path_needs_no_registration():
    path = f"{__name__}:OwnWindows"
    assert path in ENVIRONMENTS
    assert isinstance(make_mdp(path, {}), OwnWindows)
    assert isinstance(make_policy(f"{__name__}:Twice", Scenario()), Twice)
    assert f"{__name__}:Twice" not in ENVIRONMENTS  # found, but no environment
    assert "no_such_module:Env" not in ENVIRONMENTS


def test_the_same_again_does_nothing():
    for _ in range(2):
        rllib_mec.register_env(OwnWindows)
        rllib_mec.register_policy("twice", Twice)
        rllib_mec.register_policy("twice", f"{__name__}:Twice")
        rllib_mec.register_dnn("tiny", tiny_dnn, input=(3, 16, 16))
        rllib_mec.register_algorithm("PPO2", "ray.rllib.algorithms.ppo:PPO")
    assert list(POLICIES).count("twice") == 1


def other_env():
    @dataclasses.dataclass(frozen=True)
    class Other(TaskWindowMDP):
        env_id = "own_windows_v0"

    rllib_mec.register_env(Other)


@pytest.mark.parametrize(
    ("again", "name"),
    [
        (other_env, "own_windows_v0"),
        (lambda: rllib_mec.register_policy("twice", LocalOnly), "twice"),
        (lambda: rllib_mec.register_policy("planner", Twice), "planner"),
        (lambda: rllib_mec.register_dnn("tiny", no_dnn, input=(3, 16, 16)), "tiny"),
        (lambda: rllib_mec.register_dnn("tiny", tiny_dnn, input=(3, 8, 8)), "tiny"),
        (lambda: rllib_mec.register_dnn("resnet50", tiny_dnn, input=(3, 16, 16)), "resnet50"),
        (lambda: rllib_mec.register_algorithm("EMH-PPO", "a:B"), "EMH-PPO"),
    ],
)
def test_another_part_under_a_taken_name_is_one_line(again, name):
    rllib_mec.register_env(OwnWindows)
    rllib_mec.register_policy("twice", Twice)
    rllib_mec.register_dnn("tiny", tiny_dnn, input=(3, 16, 16))
    with pytest.raises(MecError, match=f"{name}.* under another name") as error:
        again()
    assert "\n" not in str(error.value)


def bad_mdp(**content):
    return type("Bad", (MDP,), content)


def undecorated():
    content = {"env_id": "bad_v0", "__annotations__": {"bonus": "float"}, "bonus": 1.0}
    return type("Undecorated", (TaskWindowMDP,), content)


@pytest.mark.parametrize(
    ("register", "message"),
    [
        (lambda: rllib_mec.register_env(bad_mdp(env_id="bad_v0")), "Bad lacks .*task_rewards"),
        (
            lambda: rllib_mec.register_env(type("Bare", (TaskWindowMDP,), {})),
            "Bare lacks an env_id",
        ),
        (lambda: rllib_mec.register_env(undecorated()), "'bonus'.* dataclass"),
        (lambda: rllib_mec.register_env(LocalOnly), "must be a subclass of MDP or MecParallelEnv"),
        (lambda: rllib_mec.register_env(3), "must be a subclass of MDP or MecParallelEnv"),
        (lambda: rllib_mec.register_policy("p", OwnWindows), "must be a subclass of .*Policy"),
        (lambda: rllib_mec.register_policy("p", Policy), "'p' lacks decide"),
        (lambda: rllib_mec.register_policy("p", "a.b"), "must be PKG.MODULE:NAME, but is 'a.b'"),
        (lambda: rllib_mec.register_policy("a:b", Twice), "a text without a colon"),
        (lambda: rllib_mec.register_algorithm("a", Twice), "must be a subclass of .*Algorithm"),
        (lambda: rllib_mec.register_dnn("d", 3, input=(3, 8, 8)), "must be callable, but is 3"),
        (lambda: rllib_mec.register_dnn("d", tiny_dnn, input="3,8"), "input must be sizes such as"),
        (
            lambda: rllib_mec.register_dnn("d", tiny_dnn, input=(3, 0)),
            "input must be sizes such as",
        ),
        (lambda: rllib_mec.register_dnn("d", needs_an_argument, input=(3,)), "no arguments, but"),
        (lambda: make_policy("plannr", Scenario()), "did you mean 'planner'"),
        (lambda: make_policy("nowhere:P", Scenario()), "cannot import policy 'nowhere:P': Module"),
        (lambda: make_mdp(f"{__name__}:Twice", {}), "must be a subclass of MDP"),
    ],
)
def test_a_bad_part_is_one_line(register, message):
    with pytest.raises(MecError, match=message) as error:
        register()
    assert "\n" not in str(error.value)


DNN_FIELDS = {"dnn_input": [3, 16, 16], "server_latency_ms": 2.0}


def test_a_dnn_of_ones_own_is_partitioned_under_its_path_or_its_name():
    rllib_mec.register_dnn("tiny", tiny_dnn, input=(3, 16, 16))
    by_path = Scenario(dnn=f"{__name__}:tiny_dnn", partition="operator", **DNN_FIELDS)
    by_name = Scenario(dnn="tiny", partition="operator", server_latency_ms=2.0)
    # A 3x3 convolution makes 4 maps of 14x14 of 3x16x16; then 784 x 5 products.
    macs = 14 * 14 * 4 * 3 * 9 + 784 * 5
    for scenario in (by_path, by_name):
        table = scenario.table
        assert table.local_mmacs[-1] == pytest.approx(macs / 1e6)
        assert table.bits[0] == 32 * 3 * 16 * 16 and table.bits[1] == 32 * 4 * 14 * 14
        assert table.local_latency_ms[-1] == pytest.approx(5 * 2.0)
    assert by_path.dnn_input == (3, 16, 16)
    assert Scenario.from_dict(by_path.to_dict()) == by_path


def test_another_input_of_a_torchvision_model_is_counted_as_such():
    small = Scenario(dnn="resnet50", dnn_input=[3, 64, 64], server_latency_ms=1.0)
    assert small.table.bits[0] == 32 * 3 * 64 * 64
    with pytest.raises(MecError, match="server_latency_ms of resnet50 is not known"):
        Scenario(dnn="resnet50", dnn_input=[3, 64, 64])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dnn": "tiny"}, "server_latency_ms of tiny is not known"),
        ({"dnn": f"{__name__}:tiny_dnn"}, "give dnn_input"),
        ({"dnn": f"{__name__}:tiny_dn", **DNN_FIELDS}, "DNN .*tiny_dn': .*did you mean 'tiny_dnn'"),
        ({"dnn": f"{__name__}:no_dnn", **DNN_FIELDS}, "made a int, expected a torch.nn.Module"),
        ({"dnn": f"{__name__}:needs_an_argument", **DNN_FIELDS}, "must take no arguments"),
        ({"dnn": "tiny", "dnn_input": [3, 16], "server_latency_ms": 1.0}, "cannot run"),
        ({"dnn": "tiny", "dnn_input": "3x16", "server_latency_ms": 1.0}, "dnn_input"),
        ({"dnn": "tinny", "server_latency_ms": 1.0}, "did you mean 'tiny'"),
    ],
)
def test_a_bad_dnn_is_one_line_before_anything_runs(fields, message):
    rllib_mec.register_dnn("tiny", tiny_dnn, input=(3, 16, 16))
    with pytest.raises(MecError, match=message) as error:
        Scenario(**fields)
    assert "\n" not in str(error.value)


def in_a_process(tmp_path, script, **files):
    """Run a script in a process of its own, with files of a made-up distribution beside it."""
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
    main = tmp_path / "main_script.py"
    main.write_text(textwrap.dedent(script))
    return subprocess.run(
        [sys.executable, str(main)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "RAY_worker_niceness": "0"},
        capture_output=True,
        text=True,
        timeout=550,
    )


def entry_points(tmp_path, text):
    """A distribution on the path that has these entry points."""
    info = tmp_path / "made_up-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: made_up\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[rllib_mec.plugins]\n{textwrap.dedent(text)}")


PLUGIN = """
    import dataclasses
    import rllib_mec
    from rllib_mec.envs import TaskWindowMDP
    from rllib_mec.policies import LocalOnly

    @rllib_mec.register_env
    @dataclasses.dataclass(frozen=True)
    class Windows(TaskWindowMDP):
        env_id = "made_up_v0"

    class Mine(LocalOnly):
        name = "mine"

    def register():
        rllib_mec.register_policy("mine", Mine)
"""


def test_entry_points_of_another_package_are_loaded_when_a_name_is_asked_for(tmp_path):
    entry_points(tmp_path, "made_up = made_up_plugin:register\n")
    done = in_a_process(
        tmp_path,
        """
        import sys
        import rllib_mec
        from rllib_mec.registry import ENVIRONMENTS, POLICIES, make_mdp
        assert make_mdp("mec_task_window_v0", {}).env_id == "mec_task_window_v0"
        assert "made_up_plugin" not in sys.modules  # not needed yet
        assert make_mdp("made_up_v0", {"num_devices": 2}).scenario.num_devices == 2
        assert "mine" in POLICIES and "ray" not in sys.modules
        from ray.tune.registry import ENV_CREATOR, _global_registry
        assert _global_registry.contains(ENV_CREATOR, "made_up_v0")
        """,
        made_up_plugin=PLUGIN,
    )
    assert done.returncode == 0, done.stderr


def test_a_plugin_that_fails_is_one_line_and_breaks_nothing(tmp_path):
    entry_points(tmp_path, "bad = bad_plugin\ngone = no_such_plugin:f\ngood = made_up_plugin\n")
    done = in_a_process(
        tmp_path,
        """
        import rllib_mec
        print("imported")
        from rllib_mec.registry import ENVIRONMENTS
        print(list(ENVIRONMENTS), list(ENVIRONMENTS))
        """,
        bad_plugin="import rllib_mec\nraise RuntimeError('no licence\\nfound')",
        made_up_plugin=PLUGIN,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("imported") and "made_up_v0" in done.stdout
    bad, gone = sorted(done.stderr.splitlines())
    file = tmp_path / "bad_plugin.py"
    assert bad == (
        f"plugin 'bad' (bad_plugin, {file}:2) failed to load: RuntimeError: no licence found"
    )
    assert gone.startswith("plugin 'gone' (no_such_plugin:f, ")
    assert gone.endswith("ModuleNotFoundError: No module named 'no_such_plugin'")


SCRIPT = """
    import ray
    import rllib_mec
    from ray import tune
    from rllib_mec.algorithms.emh_ppo import EMHPPO, EMHPPOConfig
    from rllib_mec.algorithms.multi_agent_env import one_policy_for_all
    from rllib_mec.envs import TaskWindowMDP

    SHARED = 7

    class Early(TaskWindowMDP):
        env_id = "registered_before_ray_starts_v0"

    class Late(TaskWindowMDP):
        env_id = "registered_after_it_v0"

        def __str__(self):
            return f"the script's {SHARED}"

    class MyEMHPPO(EMHPPO):
        pass

    def tiny():
        from torch import nn
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(784, 5))

    def with_a_remote_env_runner(config, env):
        env_config = {"dnn": "tiny", "server_latency_ms": 2.0, "num_devices": 2, "mean_tasks": 3}
        config.environment(env, env_config=env_config)
        config.env_runners(num_env_runners=1, num_envs_per_env_runner=2)
        return config.training(train_batch_size_per_learner=32, minibatch_size=16, num_epochs=1)

    def train():
        from ray.rllib.algorithms.ppo import PPOConfig
        stock = PPOConfig().multi_agent(
            policies={"shared"}, policy_mapping_fn=one_policy_for_all)
        algorithm = with_a_remote_env_runner(stock, Late.env_id).build_algo()
        result = algorithm.train()
        assert result["num_env_steps_sampled_lifetime"] >= 32
        algorithm.stop()
        print("trained")

    def train_in_a_trial():
        run_config = tune.RunConfig(
            stop={"training_iteration": 1}, storage_path=STORAGE, verbose=0)
        config = with_a_remote_env_runner(EMHPPOConfig(), Early.env_id)
        results = tune.Tuner("Mine", param_space=config, run_config=run_config).fit()
        assert results.num_errors == 0, results.errors
        print("tuned")

    if __name__ == "__main__":
        rllib_mec.register_env(Early)
        rllib_mec.register_algorithm("Mine", MyEMHPPO)
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        rllib_mec.register_env(Late)
        rllib_mec.register_dnn("tiny", tiny, input=(3, 16, 16))
        train()
        train_in_a_trial()
"""


@pytest.mark.slow
def test_what_a_script_registers_works_in_remote_env_runners_and_in_a_tune_trial(tmp_path):
    storage = f"STORAGE = {str(tmp_path / 'results')!r}\n"
    done = in_a_process(tmp_path, storage + textwrap.dedent(SCRIPT))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("trained\n") and done.stdout.endswith("tuned\n")


def test_a_pettingzoo_env_of_ones_own_is_taken_as_it_is():
    class Drawn(TaskWindowEnv):
        mdp_class = OwnWindows

    rllib_mec.register_env(Drawn)
    assert ENVIRONMENTS.load("own_windows_v0") is Drawn

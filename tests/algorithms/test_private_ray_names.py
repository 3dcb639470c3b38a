"""Names that Ray keeps to itself and this package cannot do without: a new Ray may drop any.

They are why ``pyproject.toml`` has an upper bound on Ray's version. Before it is raised, these
tests say which names have gone.
"""

import ast
import importlib
import pathlib

import pytest
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.connectors.env_to_module import MeanStdFilter
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

import rllib_mec

OF_OBJECTS = {
    "config": {
        "_env_to_module_connector": "whether a checkpoint has connectors of its user's",
        "_module_to_env_connector": "the same",
        "_model_config": "which keys of model_config a user has given",
        "_rl_module_spec": "whether a user has given networks",
        "_model_config_auto_includes": "what the networks must know of the MDP; drops PPO's own",
        "_torch_grad_scaler_class": "an argument of `experimental`; keeps to RLlib's update",
        "_torch_lr_scheduler_classes": "the same",
    },
    "learner": {
        "_learner_connector": "takes out PPO's advantages; its state is part of a checkpoint",
        "_weights_seq_no": "seeds the order of minibatches; a restored checkpoint must win",
        "_check_component": "which parts of a state are asked for",
    },
    "env_runner": {
        "_env_to_module": "Ray's EnvRunnerGroup reads and restores it",
        "_module_to_env": "the same",
        "_seed": "the env runner's own, made of config.seed and worker_index",
        "_check_component": "which parts of a state are asked for",
    },
    "filter": {"_update_stats": "a filter must not learn from being measured"},
}

OF_MODULES = {
    "ray._common.deprecation": {"DEPRECATED_VALUE": "what a deprecated argument has by default"},
    "ray._private.ray_constants": {
        "ENABLE_RAY_CLUSTER": "whether the testbed's Ray stays on the loopback"
    },
    "ray.experimental.internal_kv": dict.fromkeys(
        (
            "_internal_kv_del",
            "_internal_kv_get",
            "_internal_kv_initialized",
            "_internal_kv_list",
            "_internal_kv_put",
        ),
        "how far a lesson is, which Tune does not know",
    ),
    "ray.serve._private.replica": {
        "add_port_to_grpc_server": "the testbed's replicas open no port for other machines"
    },
    "ray.tune.registry": {"_global_registry": "all names, for any process of Ray's"},
    "ray.tune.search.variant_generator": {
        "_has_unresolved_values": "whether a config still has something to be drawn"
    },
}

ROOMS = ("algorithms", "policies", "evaluation", "experiments")
"""Those that know RLlib."""


@pytest.fixture(scope="module")
def objects():
    """Ray's own, not ours, which might define a name themselves."""
    config = PPOConfig().environment("CartPole-v1").env_runners(num_env_runners=0)
    env_runner = SingleAgentEnvRunner(config=config, worker_index=0, num_workers=0)
    learner = config.build_learner(spaces=env_runner.get_spaces())
    return {
        "config": config,
        "learner": learner,
        "env_runner": env_runner,
        "filter": MeanStdFilter(),
    }


@pytest.mark.parametrize(
    ("owner", "name"), [(owner, name) for owner, names in OF_OBJECTS.items() for name in names]
)
def test_rays_objects_have_it(owner, name, objects):
    assert hasattr(objects[owner], name), OF_OBJECTS[owner][name]


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in OF_MODULES.items() for name in names]
)
def test_rays_modules_have_it(module, name):
    assert hasattr(importlib.import_module(module), name), OF_MODULES[module][name]


def test_no_other_private_name_is_used():
    package = pathlib.Path(rllib_mec.__path__[0])
    files = [
        package / "plugin.py",
        *(file for room in ROOMS for file in (package / room).rglob("*.py")),
    ]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    own, used = {"_replace", "_asdict", "_fields"}, set()  # of named tuples
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            (own if isinstance(node.ctx, ast.Store) else used).add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ray"):
            used |= {alias.name for alias in node.names if alias.name.startswith("_")}
    listed = {name for names in (*OF_OBJECTS.values(), *OF_MODULES.values()) for name in names}
    assert {name for name in used - own - listed if not name.startswith("__")} == set()
    assert {name for name in listed - used - own if name.startswith("_")} == set()

"""A DNN of your own, partitioned and offloaded: by its path, or by a name.

    python examples/own_dnn.py
    rllib-mec partition --model examples.own_dnn:make_dnn --input 3,64,64
    rllib-mec compare --scenario dnn=examples.own_dnn:make_dnn dnn_input=[3,64,64] \
        server_latency_ms=0.4 --policies local-only,full-offload

Expect a table of its partition points, then two policies on it. With `register_dnn` it has a short
name, which `env_config` takes as well, also in Ray's workers.
"""

import torch

import rllib_mec
from rllib_mec.evaluation import comparison_table, evaluate
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import FullOffload, LocalOnly


def make_dnn():
    """A small classifier of 64x64 images."""
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 32, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(4),
        torch.nn.Conv2d(32, 64, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(4),
        torch.nn.Flatten(),
        torch.nn.Linear(64 * 16, 10),
    )


if __name__ == "__main__":
    rllib_mec.register_dnn("small-cnn", make_dnn, input=(3, 64, 64))
    # The latency of the whole DNN on a server is known only for the paper's.
    scenario = Scenario(dnn="small-cnn", server_latency_ms=0.4, partition="operator")
    table = scenario.table
    for sent, bits, local_ms in zip(
        table.operators, table.bits, table.local_latency_ms, strict=True
    ):
        print(f"sends {', '.join(sent) or 'nothing'}: {bits / 8e3:.1f} kB, {local_ms:.2f} ms local")
    policies = [LocalOnly(scenario), FullOffload(scenario)]
    print(comparison_table([evaluate(policy, episodes=20) for policy in policies]))

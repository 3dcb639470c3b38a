"""Train EMH-PPO from Python and keep a checkpoint.

    python examples/train_emh_ppo.py results           # from scratch, about 3 minutes
    python examples/train_emh_ppo.py results 1         # one iteration

Expect `reward`, the mean of Eq. (8) over task windows, to rise from about -40 to -18; with
`demonstrations` (see tuned_configs/emh_ppo.yaml) it begins at -15.
"""

import sys
from pathlib import Path

from rllib_mec.algorithms.emh_ppo import EMHPPOConfig

folder = Path(sys.argv[1]).absolute()
iterations = int(sys.argv[2]) if len(sys.argv) > 2 else 100

config = (
    EMHPPOConfig()
    .environment("mec_task_window_v0", env_config={"num_devices": 3})
    .training(lr=3e-4, demonstrations=0)
    .debugging(seed=0)
)
algorithm = config.build_algo()
for iteration in range(iterations):
    found = algorithm.train()["env_runners"]
    print(iteration, "reward", round(found.get("reward", float("nan")), 2))
print("checkpoint:", algorithm.save_to_path(folder / "checkpoint_000000"))
algorithm.stop()

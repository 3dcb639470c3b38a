"""Result folders as Tune leaves them, written by hand."""

import json
from pathlib import Path

STEPS = "num_env_steps_sampled_lifetime"


def write_trial(
    experiment: Path,
    rewards,
    *,
    algorithm="EMHPPO",
    env="mec_task_window_v0",
    number=0,
    metric="reward",
    step=1000,
    **params,
) -> Path:
    """A trial whose metric had these values, 1000 steps apart."""
    folder = experiment / f"{algorithm}_{env}_{abs(hash(experiment)) % 16**5:05x}_{number:05d}_x"
    folder.mkdir(parents=True)
    params = {"env": env, "seed": None, "env_config": {}, **params}
    (folder / "params.json").write_text(json.dumps(params))
    lines = [
        json.dumps(
            {
                STEPS: step * i,
                "training_iteration": i,
                "done": False,
                "env_runners": {metric: reward},
                "config": params,
            }
        )
        for i, reward in enumerate(rewards, start=1)
    ]
    (folder / "result.json").write_text("".join(f"{line}\n" for line in lines))
    return folder

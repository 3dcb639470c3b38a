"""``mec_task_window_v0``: the task-aware MDP of Section IV-A as a PettingZoo ``ParallelEnv``."""

from __future__ import annotations

from rllib_mec.envs.parallel import MecParallelEnv, aec_constructor
from rllib_mec.envs.task_window import TaskWindowMDP

__all__ = ["env", "parallel_env", "raw_env"]


class TaskWindowEnv(MecParallelEnv):
    r"""Mobile devices that share channels and MEC servers, one task window a step.

    Every mobile device (MD) has a queue of DNN inference tasks. In a step each MD decides how many
    of its tasks to run next and, for each, where to cut the DNN, over which channel and at which
    power to send the tensor, and which MEC server finishes it. All MDs begin together; the step
    ends when the slowest is done. The episode ends when all queues are empty.

    | Import | ``from rllib_mec.envs import task_window_v0`` |
    |---|---|
    | Actions | hybrid: discrete and continuous |
    | Parallel API | yes |
    | Agents | ``md_0`` … ``md_{N-1}`` |
    | Action space | ``Dict``, see below |
    | Observation space | ``Box(0, inf, (3N,), float32)`` |
    | State space | ``Box(0, inf, (2N,), float32)`` |

    ### Usage

    .. code-block:: python

        from rllib_mec.envs import task_window_v0

        env = task_window_v0.parallel_env(num_devices=3)
        observations, infos = env.reset(seed=42)
        while env.agents:
            actions = {agent: env.action_space(agent).sample() for agent in env.agents}
            observations, rewards, terminations, truncations, infos = env.step(actions)
        env.close()

    ### Observation

    | Index | Meaning | Unit |
    |---|---|---|
    | 0 … N-1 | X_n/λ, tasks left of each MD over the mean number of tasks | 1 |
    | N … 2N-1 | d_n/d_max, distance of each MD to the base station over the largest | 1 |
    | 2N … 3N-1 | the agent's own one-hot | 1 |

    ### Action (one MD, up to W_max tasks)

    | Key | Space | Meaning |
    |---|---|---|
    | ``partition`` | ``MultiDiscrete([S] * W_max)`` | 0 sends the input, S-1 is full local |
    | ``channel`` | ``MultiDiscrete([C] * W_max)`` | wireless channel |
    | ``server`` | ``MultiDiscrete([M] * W_max)`` | MEC server |
    | ``power`` | ``Box(0, 1, (W_max,), float32)`` | transmit power, see ``power_scale`` |
    | ``window`` | ``Discrete(W_max)`` | value v: the next v+1 tasks, or what is left of the queue |

    ### Reward

    Every agent gets r_k of Eq. (8): minus (latency of the window in ms, plus α times the mean
    waiting time, plus β/N times the energy of all MDs in J) over the mean window size W_k.

    ### Infos

    Every agent's info has the window's ``latency_ms``, ``energy_j`` (of all MDs) and
    ``waiting_ms``, its own ``window_size``, the tasks it did, and its ``action_mask``, for
    ``action_space(agent).sample(mask=...)``.

    ### Arguments

    The fields of :class:`~rllib_mec.network.scenario.Scenario` with their defaults (Table III),
    and ``render_mode``: ``"human"``, ``"ansi"`` or ``"rgb_array"``, the last window as a Gantt
    chart (Fig. 4).
    ``reset`` takes ``options={"num_tasks": 50, "distance_m": 50.0}`` to fix either for the episode.

    ### Version history

    * v0: initial version.
    """

    mdp_class = TaskWindowMDP


parallel_env = TaskWindowEnv
raw_env = aec_constructor(TaskWindowEnv)
env = raw_env

"""``mec_time_slot_v0``: the discrete-time MDP that the paper compares with, in PettingZoo's API."""

from __future__ import annotations

from rllib_mec.envs.parallel import MecParallelEnv, aec_constructor
from rllib_mec.envs.time_slot import TimeSlotMDP

__all__ = ["env", "parallel_env", "raw_env"]


class TimeSlotEnv(MecParallelEnv):
    r"""Mobile devices that share channels and MEC servers, one time slot a step.

    The physics of :class:`~rllib_mec.envs.task_window_v0.TaskWindowEnv`, but decisions are made
    every τ milliseconds whatever the tasks do. In a step each mobile device (MD) makes one
    decision, which holds for all tasks that it begins in the slot; a task in flight goes on under
    the decision it began with, over as many slots as it needs. Distances and shadowing are drawn
    anew in every slot. The episode ends when all tasks are done.

    | Import | ``from rllib_mec.envs import time_slot_v0`` |
    |---|---|
    | Actions | hybrid: discrete and continuous |
    | Parallel API | yes |
    | Agents | ``md_0`` … ``md_{N-1}`` |
    | Action space | ``Dict``, see below |
    | Observation space | ``Box(0, inf, (3N,), float32)`` |
    | State space | ``Box(0, inf, (2N,), float32)`` |

    ### Usage

    .. code-block:: python

        from rllib_mec.envs import time_slot_v0

        env = time_slot_v0.parallel_env(num_devices=3, slot_ms=50.0)
        observations, infos = env.reset(seed=42)
        while env.agents:
            actions = {agent: env.action_space(agent).sample() for agent in env.agents}
            observations, rewards, terminations, truncations, infos = env.step(actions)
        env.close()

    ### Observation

    | Index | Meaning | Unit |
    |---|---|---|
    | 0 … N-1 | X_n/λ, tasks not yet done of each MD over the mean number of tasks | 1 |
    | N … 2N-1 | d_n/d_max, distance of each MD to the base station over the largest | 1 |
    | 2N … 3N-1 | the agent's own one-hot | 1 |

    With ``observe_progress`` three more blocks of N stand before the one-hot (so that it is
    ``Box(6N)``, and the state ``Box(5N)``): what each MD's task in flight has left of its local
    computation, over the whole DNN's; of its bits, over the input's; of its server's computation.

    ### Action (one MD)

    | Key | Space | Meaning |
    |---|---|---|
    | ``partition`` | ``MultiDiscrete([S])`` | 0 sends the input, S-1 is full local |
    | ``channel`` | ``MultiDiscrete([C])`` | wireless channel |
    | ``server`` | ``MultiDiscrete([M])`` | MEC server |
    | ``power`` | ``Box(0, 1, (1,), float32)`` | transmit power, see ``power_scale`` |
    | ``window`` | ``Discrete(1)`` | nothing to choose: there for the sake of one action format |

    ### Reward

    As in MAHPPO, every agent gets -(τ + β/N times the energy of all MDs in the slot, in J) over the
    mean number of tasks that an MD finished in it, taken as ``min_mean_tasks`` if it is less. The
    last slot counts τ in full. In slots so short that no decision can finish ``min_mean_tasks``,
    latency shows in the number of slots alone, which a discounted return hardly sees.

    ### Infos

    Every agent's info has ``latency_ms`` (the slot's length, or the time until all tasks were done
    in the last one), ``energy_j`` (of all MDs in the slot), ``waiting_ms`` (0), its own
    ``window_size``, the tasks it finished, and its ``action_mask``, for
    ``action_space(agent).sample(mask=...)``.

    ### Arguments

    | Name | Default | Meaning |
    |---|---|---|
    | ``slot_ms`` | 50.0 | τ |
    | ``min_mean_tasks`` | 0.8 | floor in the reward; 0.8 is MAHPPO's |
    | ``observe_progress`` | ``False`` | whether tasks in flight are observed; MAHPPO's are |
    | ``render_mode`` | ``None`` | ``"human"``, ``"ansi"``, ``"rgb_array"``: the slot as a chart |

    and the fields of :class:`~rllib_mec.network.scenario.Scenario` but for ``max_window``.
    ``reset`` takes ``options={"num_tasks": 50, "distance_m": 50.0}`` to fix either for the episode.

    ### Version history

    * v0: initial version.
    """

    mdp_class = TimeSlotMDP


parallel_env = TimeSlotEnv
raw_env = aec_constructor(TimeSlotEnv)
env = raw_env

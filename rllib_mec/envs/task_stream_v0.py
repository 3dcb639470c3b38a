"""``mec_task_stream_v0``: tasks that arrive over time, as a PettingZoo ``ParallelEnv``."""

from __future__ import annotations

from rllib_mec.envs.parallel import MecParallelEnv, aec_constructor
from rllib_mec.envs.task_stream import TaskStreamMDP

__all__ = ["env", "parallel_env", "raw_env"]


class TaskStreamEnv(MecParallelEnv):
    r"""Mobile devices that share channels and MEC servers, and to which tasks come over time.

    The physics and the actions of :class:`~rllib_mec.envs.task_window_v0.TaskWindowEnv`, but tasks
    arrive. A step begins when some mobile device (MD) is ready: it has a task at hand and none in
    flight. Every MD decides for a task window. One that is ready does as many of the tasks at hand;
    any other does up to its window of tasks as they come, or as it gets free, while the step lasts.
    When all that were ready have done theirs, tasks in flight go on under the decision that they
    began with, and time runs on until some MD is ready again. The episode is cut at a horizon. With
    ``arrivals="none"`` all tasks are there at the start, and this is ``mec_task_window_v0``.

    | Import | ``from rllib_mec.envs import task_stream_v0`` |
    |---|---|
    | Actions | hybrid: discrete and continuous |
    | Parallel API | yes |
    | Agents | ``md_0`` … ``md_{N-1}`` |
    | Action space | ``Dict``, as in ``mec_task_window_v0`` |
    | Observation space | ``Box(0, inf, (7N + 1,), float32)``, more for unlike MDs |
    | State space | ``Box(0, inf, (6N + 1,), float32)``, likewise |

    ### Usage

    .. code-block:: python

        from rllib_mec.envs import task_stream_v0

        env = task_stream_v0.parallel_env(num_devices=3, arrival_rate_hz=30.0, deadline_ms=100.0)
        observations, infos = env.reset(seed=42)
        while env.agents:
            actions = {agent: env.action_space(agent).sample() for agent in env.agents}
            observations, rewards, terminations, truncations, infos = env.step(actions)
        env.close()

    ### Observation

    | Index | Meaning | Unit |
    |---|---|---|
    | 0 … N-1 | X_n/λ, tasks at hand of each MD over ``mean_tasks`` | 1 |
    | N … 2N-1 | d_n/d_max, distance of each MD to the base station over the largest | 1 |
    | 2N … 5N-1 | what each MD's task in flight has left: local work, bits, server's work | 1 |
    | 5N … 6N-1 | log(1 + age of the oldest task at hand over the latency of a local task) | 1 |
    | 6N | share of the episode that is left | 1 |
    | 6N+1 … 7N | the agent's own one-hot | 1 |

    Before the one-hot stand, N each, ``arrival_rate`` and ``urgency`` where MDs differ in their
    rate or deadline, and ``recent`` with bursts or a trace; see
    :func:`~rllib_mec.envs.observation.encode_coming`. With ``outages`` or ``visits`` there
    stand a 1 for each of the M servers and the N MDs that is up, else a 0.

    ### Agents

    All from the start to the end; with ``visits`` an agent is there while its MD is. One that joins
    is first seen in what :meth:`step` returns, with a reward of 0; one that leaves is terminated.

    ### Reward

    Every agent gets r_k of Eq. (8), of the MDs that were ready: minus (latency of the window in ms,
    plus α times their mean waiting time, plus β/N times the energy of all MDs in J) over the mean
    number of tasks begun; minus ``delay_weight`` times the mean time in ms that tasks which came
    after the episode's start waited before they began; minus ``deadline_weight`` times the share of
    the finished tasks that were late.

    ### Infos

    Every agent's info has the window's ``latency_ms``, ``energy_j`` (of all MDs) and
    ``waiting_ms``, its own ``window_size``, the tasks it finished in the step, and its
    ``action_mask``, for ``action_space(agent).sample(mask=...)``.

    ### Arguments

    | Name | Default | Meaning |
    |---|---|---|
    | ``arrivals`` | ``poisson`` | or ``bursts``, ``none``, or a CSV file ``time_s,device`` |
    | ``arrival_rate_hz`` | 20.0 | tasks a second and MD; also of a group in ``devices`` |
    | ``deadline_ms`` | ``None`` | what a task may take; also of a group in ``devices`` |
    | ``horizon_ms`` | 10 000 | when an episode is cut (truncated) |
    | ``burst_factor`` | 4.0 | rate in a burst over the mean rate |
    | ``burst_share`` | 0.1 | share of the time in bursts |
    | ``burst_mean_ms`` | 500.0 | mean length of a burst |
    | ``delay_weight`` | 1.0 | in the reward |
    | ``deadline_weight`` | 50.0 | in the reward |
    | ``outages`` | ``none`` | or ``random``, or a CSV file ``part,from_s,to_s``: what fails |
    | ``server_up_ms`` | 60 000 | mean time that a server is up |
    | ``server_down_ms`` | 5 000 | mean time that it is down; 0: never |
    | ``device_up_ms`` | 60 000 | mean time that an MD is up |
    | ``device_down_ms`` | 0 | mean time that it is down; 0: never |
    | ``visits`` | ``none`` | or ``random``, or a CSV file ``device,join_s,leave_s`` |
    | ``present_share`` | 0.5 | share of the MDs that are there from the start |
    | ``stay_ms`` | 10 000 | mean stay of an MD |

    and the other fields of :class:`~rllib_mec.network.scenario.Scenario`, and ``render_mode``.
    ``reset`` takes ``options={"num_tasks": 5, "distance_m": 50.0}``: tasks at the start, besides
    those that come, and distances.

    ### Version history

    * v0: initial version.
    """

    mdp_class = TaskStreamMDP


parallel_env = TaskStreamEnv
raw_env = aec_constructor(TaskStreamEnv)
env = raw_env

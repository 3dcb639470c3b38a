"""PPO on a batch of worlds with one joint module: config, iteration, checkpoints."""

from __future__ import annotations

import abc
import functools
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.ppo import PPO, PPOConfig
from ray.rllib.connectors.env_to_module import MeanStdFilter
from ray.rllib.connectors.learner import (
    AddColumnsFromEpisodesToTrainBatch,
    AddObservationsFromEpisodesToBatch,
    AddStatesFromEpisodesToBatch,
    AddTimeDimToBatchAndZeroPad,
    BatchIndividualItems,
    NumpyToTensor,
)
from ray.rllib.connectors.module_to_env import GetActions, NormalizeAndClipActions
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.utils.from_config import NotProvided
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME
from typing_extensions import Self

from rllib_mec.algorithms.acting import DrawActions
from rllib_mec.algorithms.bounds import BOUNDS, check_bounds
from rllib_mec.algorithms.env_config import check_env_config
from rllib_mec.algorithms.env_runner import COMPONENT_WORLDS, TaskWindowEnvRunner
from rllib_mec.algorithms.joint_ppo.connectors import (
    AddColumnsFromEpisodes,
    PerTaskAdvantages,
    StandardiseAdvantages,
)
from rllib_mec.algorithms.joint_ppo.learner import JointPPOTorchLearner
from rllib_mec.algorithms.joint_ppo.rl_module import JointRLModule
from rllib_mec.algorithms.joint_ppo.scenario_turns import GoToScenario
from rllib_mec.algorithms.joint_ppo.settings import SETTINGS, check_arguments, check_settings
from rllib_mec.algorithms.randomize import check_randomize, is_randomized
from rllib_mec.algorithms.recording import can_pack_episodes
from rllib_mec.errors import MecError, nearest, one_line
from rllib_mec.network.checks import Count, Positive, Switch
from rllib_mec.registry import ENVIRONMENTS, algorithm_name, make_mdp

RESTART_PATIENCE_S = 120.0
"""How long to wait for env runners to come back when none of them answers."""

REMOTE_WORLDS = "remote_worlds"


class JointPPOConfig(PPOConfig):
    """Defines what EMH-PPO and its baselines have in common.

    A subclass says what differs: the networks (:meth:`joint_module_class`), the loss
    (:meth:`get_default_learner_class`) and its own defaults.

    Every setting of ``PPOConfig`` works as there or is refused: see
    :data:`~rllib_mec.algorithms.joint_ppo.settings.SETTINGS`. Two defaults differ, so that the loss
    is the paper's: ``use_kl_loss`` is false, and ``vf_clip_param`` is ``None``, no limit.

    Attributes:
        bounds: Class attribute, the values that the settings take; a subclass adds its own.
    """

    bounds: ClassVar[Mapping[str, Any]] = {
        **BOUNDS,
        "num_threads_per_env_runner": Count,
        "reward_scale": Positive,
        "average_reward": Switch,
    }

    def __init__(self, algo_class: type[Algorithm] | None = None):
        """Set the defaults of Table III, and those of ours that the paper leaves open."""
        super().__init__(algo_class=algo_class or JointPPO)

        # Table III and Section V-A.
        self.gamma = 0.95
        self.clip_param = 0.2
        self.lr = 3e-4
        # Left open by the paper.
        self.lambda_ = 0.95
        self.num_epochs = 4
        self.train_batch_size_per_learner = 2048
        self.minibatch_size = 512
        self.entropy_coeff = 0.02
        self.vf_loss_coeff = 0.5
        self.grad_clip = 0.5
        self.num_env_runners = 0
        self.num_envs_per_env_runner = 128
        self.num_threads_per_env_runner = 1
        self.env_runner_cls = TaskWindowEnvRunner
        self.use_kl_loss = False
        self.vf_clip_param = None

        # Common to EMH-PPO and its baselines.
        self.reward_scale = 10.0
        self.average_reward = False

        # Of the algorithm, not for the user to set: one decision for all tasks of a window.
        self.decision_per_task = False
        self.per_task_advantages = False

    def env_runners(
        self,
        *,
        num_threads_per_env_runner: int = NotProvided,  # type: ignore[assignment]
        **kwargs: Any,
    ) -> Self:
        """Sets the rollout worker configuration.

        Args:
            num_threads_per_env_runner: Threads that the physics of an env runner's worlds is spread
                over, for networks of many MDs; it changes no number.
            **kwargs: Those of :meth:`PPOConfig.env_runners`.

        Returns:
            This updated config.
        """
        self._call("env_runners", **kwargs)
        self._set_provided(num_threads_per_env_runner=num_threads_per_env_runner)
        return self

    def training(
        self,
        *,
        reward_scale: float = NotProvided,  # type: ignore[assignment]
        average_reward: bool = NotProvided,  # type: ignore[assignment]
        **kwargs: Any,
    ) -> Self:
        """Sets the training related configuration.

        Args:
            reward_scale: Rewards are divided by this in training, so that values are near 1.
            average_reward: Whether to maximise the mean reward of a window instead of the
                discounted sum: rewards are counted from their running mean. Eq. (8) is a cost per
                task, so that a sum over windows prefers few large windows to cheap ones, whereas
                the paper's average reward, and the total latency, do not.
            **kwargs: Those of :meth:`PPOConfig.training`.

        Returns:
            This updated config.
        """
        self._call("training", **kwargs)
        self._set_provided(reward_scale=reward_scale, average_reward=average_reward)
        return self

    def _call(self, section: str, *args: Any, **kwargs: Any) -> Self:
        """Call PPO's method of that name; in one line, what RLlib would drop or fail at."""
        check_arguments(self, section, kwargs)
        try:
            return getattr(super(), section)(*args, **kwargs)
        except ValueError as error:
            raise MecError(one_line(error)) from None

    def _set_provided(self, **values: Any) -> None:
        """Set what a caller of a section's method has given."""
        for name, value in values.items():
            if value is not NotProvided:
                setattr(self, name, value)

    @abc.abstractmethod
    def joint_module_class(self) -> type[JointRLModule]:
        """The networks."""

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """The joint module of all MDs."""
        return RLModuleSpec(module_class=self.joint_module_class())

    def advantages_class(self) -> type[PerTaskAdvantages]:
        """The connector that estimates advantages."""
        return PerTaskAdvantages

    def build_env_to_module_connector(self, *args: Any, **kwargs: Any) -> Any:
        """RLlib's pipeline, with an ``observation_filter`` before the user's own pieces.

        Args:
            *args: As RLlib passes them.
            **kwargs: As RLlib passes them.
        """
        pipeline: Any = super().build_env_to_module_connector(*args, **kwargs)
        if self.observation_filter == "MeanStdFilter":
            pipeline.prepend(MeanStdFilter())
        return pipeline

    def build_module_to_env_connector(self, *args: Any, **kwargs: Any) -> Any:
        """RLlib's pipeline, with the joint action's own way to draw; powers are clipped later.

        Args:
            *args: As RLlib passes them.
            **kwargs: As RLlib passes them.
        """
        pipeline: Any = super().build_module_to_env_connector(*args, **kwargs)
        if self.add_default_connectors_to_module_to_env_pipeline:
            pipeline.insert_before(GetActions, DrawActions())
            pipeline.remove(GetActions)
            pipeline.remove(NormalizeAndClipActions)
        return pipeline

    def build_learner_connector(self, *args: Any, **kwargs: Any) -> Any:
        """From episodes to a batch: the user's own pieces, then those of task slots.

        Args:
            *args: As RLlib passes them.
            **kwargs: As RLlib passes them.
        """
        pipeline: Any = super().build_learner_connector(*args, **kwargs)
        if self.add_default_connectors_to_learner_pipeline:
            for piece in (
                AddColumnsFromEpisodes(with_dist_inputs=self.use_kl_loss),
                self.advantages_class()(config=self),
                StandardiseAdvantages(per_task=self.per_task_advantages),
            ):
                pipeline.insert_before(NumpyToTensor, piece)
            for theirs in (
                AddObservationsFromEpisodesToBatch,
                AddColumnsFromEpisodesToTrainBatch,
                AddTimeDimToBatchAndZeroPad,
                AddStatesFromEpisodesToBatch,
                BatchIndividualItems,
            ):
                pipeline.remove(theirs)
        if is_randomized(self):
            pipeline.prepend(GoToScenario(config=self))
        return pipeline

    @property
    def _model_config_auto_includes(self) -> dict[str, Any]:
        return {}

    def validate(self) -> None:
        """Check the configuration.

        Raises:
            MecError: A value is bad, or the env is not one of this package.
        """
        check_settings(self)
        check_bounds(self)
        self._check_classes()
        self._check_combinations()
        try:
            super().validate()
        except ValueError as error:
            raise MecError(one_line(error)) from None
        self._check_env()
        check_env_config(self)
        if make_mdp(str(self.env), self.env_config).tasks_arrive and not self.use_critic:
            raise MecError(
                f"use_critic must be true for {self.env}, whose episodes are cut at a horizon: "
                "without values nobody says what follows"
            )
        self.joint_module_class().model_config_cls.from_dict(self.model_config)
        check_randomize(self)
        if self.evaluation_config and (evaluation := self.get_evaluation_config_object()):
            evaluation.validate()

    def _check_env(self) -> None:
        """The algorithm has one module for all MDs, whatever the env's own agents."""
        if self.env in ENVIRONMENTS:
            return
        if isinstance(self.env, str) and ":" in self.env:
            ENVIRONMENTS.load(self.env)  # says what its class path lacks
        close = nearest(str(self.env), ENVIRONMENTS)
        hint = f": did you mean {close!r}?" if close else ""
        raise MecError(
            f"{algorithm_name(self.algo_class)} trains on {', '.join(ENVIRONMENTS)}, but env is "
            f"{self.env!r}{hint or '; for other environments use an algorithm of RLlib, e.g. PPO'}"
        )

    def _check_classes(self) -> None:
        module = getattr(self._rl_module_spec, "module_class", None) or self.joint_module_class()
        for name, given, base in (
            ("env_runner_cls", self.env_runner_cls, TaskWindowEnvRunner),
            ("learner_class", self.learner_class, JointPPOTorchLearner),
            ("module_class in rl_module_spec", module, JointRLModule),
        ):
            if not (isinstance(given, type) and issubclass(given, base)):
                raise MecError(
                    f"{name} must be a subclass of {base.__name__}, "
                    f"but is {getattr(given, '__name__', repr(given))}"
                )

    def _check_combinations(self) -> None:
        """Refuse what has no meaning together; in one line, which RLlib's own checks do not."""
        if self.evaluation_parallel_to_training and not self.evaluation_num_env_runners:
            raise MecError(
                "evaluation_parallel_to_training needs env runners of its own: "
                "set evaluation_num_env_runners to 1 or more"
            )
        if self.evaluation_duration == "auto" and not self.evaluation_parallel_to_training:
            raise MecError(
                "evaluation_duration is 'auto', as long as the training iteration takes beside it: "
                "set evaluation_parallel_to_training to true, or give a number of episodes"
            )
        cuts = not self.in_evaluation and self.batch_mode != "complete_episodes"
        for name in ("use_critic", "use_gae"):
            if cuts and not getattr(self, name):
                raise MecError(
                    f"{name} can be false if batch_mode is 'complete_episodes', but it is "
                    f"{self.batch_mode!r}: without values nobody says what follows a cut"
                )
        if self.output and self.output_write_episodes and not can_pack_episodes():
            raise MecError(
                "output_write_episodes needs a package: pip install msgpack-numpy; "
                "or set it to false, for a row per step"
            )


def _checked(section: str) -> Any:
    """PPO's method of that name, by way of :meth:`JointPPOConfig._call`."""

    @functools.wraps(getattr(PPOConfig, section))
    def checked(self: JointPPOConfig, *args: Any, **kwargs: Any) -> JointPPOConfig:
        return self._call(section, *args, **kwargs)

    return checked


for _section in SETTINGS:
    if _section not in vars(JointPPOConfig):
        setattr(JointPPOConfig, _section, _checked(_section))


class JointPPO(PPO):
    """Sample task windows, update, sync weights (Algorithm 2)."""

    config: JointPPOConfig  # type: ignore[assignment]  # Ray's is optional before setup
    env_runner_group: Any
    learner_group: Any
    _saved_worlds: Sequence[dict[str, Any]] = ()

    def training_step(self) -> None:
        """PPO's iteration; waits for the env runners if all have died.

        RLlib would go on at once without a sample, for ever, reporting NaN.

        Raises:
            RuntimeError: No env runner has come back in time.
        """
        deadline = time.monotonic() + RESTART_PATIENCE_S
        before = self._num_steps_sampled()
        super().training_step()
        while self._num_steps_sampled() == before:
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"no env runner has returned a sample for {RESTART_PATIENCE_S:g} s; "
                    "see the env runners' logs for the first error"
                )
            time.sleep(1.0)
            self.restore_env_runners(self.env_runner_group)
            super().training_step()

    def _num_steps_sampled(self) -> int:
        return self.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0)

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """RLlib's state and the worlds of the remote env runners, so that a run resumes exactly.

        See the base class.
        """
        state = super().get_state(components, not_components=not_components, **kwargs)
        if self.env_runner_group and self._check_component(
            REMOTE_WORLDS, components, not_components
        ):
            state[REMOTE_WORLDS] = self._saved_worlds = self.env_runner_group.foreach_env_runner(
                lambda runner: runner.get_state(components=COMPONENT_WORLDS),
                local_env_runner=False,
            )
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore :meth:`get_state`; a runner takes the worlds that were its own.

        See the base class.
        """
        remote_worlds = state.get(REMOTE_WORLDS) or []
        super().set_state({k: v for k, v in state.items() if k != REMOTE_WORLDS})
        if remote_worlds and self.env_runner_group:
            self._saved_worlds = remote_worlds
            self._offer_worlds()

    def restore_env_runners(self, env_runner_group: EnvRunnerGroup) -> list[int]:
        """RLlib's, and a runner that was restarted goes on in its worlds of the last checkpoint.

        Without one it begins as at the start. See the base class.
        """
        restored = super().restore_env_runners(env_runner_group)
        if restored and env_runner_group is self.env_runner_group:
            self._offer_worlds(restored)
        return restored

    def _offer_worlds(self, runners: list[int] | None = None) -> None:
        """Offer all saved worlds to some remote runners, or to all; each takes its own."""
        worlds = [runner_state[COMPONENT_WORLDS] for runner_state in self._saved_worlds]

        def restore(runner: TaskWindowEnvRunner) -> None:
            for own in worlds:
                runner.set_state({COMPONENT_WORLDS: own})

        self.env_runner_group.foreach_env_runner(
            restore, local_env_runner=False, remote_worker_ids=runners
        )

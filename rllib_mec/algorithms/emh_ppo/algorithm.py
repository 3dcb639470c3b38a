"""EMH-PPO as an RLlib algorithm (Algorithm 2)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, ClassVar, Literal

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.policy.sample_batch import SampleBatch
from ray.rllib.utils.from_config import NotProvided
from typing_extensions import Self

from rllib_mec.algorithms.emh_ppo.env_runner import EMHPPOEnvRunner
from rllib_mec.algorithms.emh_ppo.learner import EMHPPOTorchLearner
from rllib_mec.algorithms.emh_ppo.rl_module import EMHPPOModelConfig, EMHPPORLModule
from rllib_mec.algorithms.emh_ppo.set_features import SetFeatures, own_parts
from rllib_mec.algorithms.emh_ppo.set_module import SetRLModule
from rllib_mec.algorithms.joint_ppo.algorithm import JointPPO, JointPPOConfig
from rllib_mec.algorithms.joint_ppo.rl_module import JointRLModule
from rllib_mec.algorithms.long_work import Teller, forget
from rllib_mec.algorithms.randomize import Pool
from rllib_mec.envs import laws
from rllib_mec.envs.mdp import MDP
from rllib_mec.errors import MecError
from rllib_mec.network.checks import Count, Natural, Switch
from rllib_mec.policies import check_plannable
from rllib_mec.registry import ENVIRONMENTS, make_mdp

SEARCH_CANDIDATES = 64


class EMHPPOConfig(JointPPOConfig):
    """Defines a configuration from which an EMH-PPO algorithm can be built.

    .. code-block:: python

        from rllib_mec.algorithms.emh_ppo import EMHPPOConfig

        config = (
            EMHPPOConfig()
            .environment("mec_task_window_v0", env_config={"num_devices": 3})
            .training(lr=3e-4, entropy_coeff=0.02)
        )
        algorithm = config.build_algo()
        print(algorithm.train()["env_runners"]["reward"])
    """

    bounds: ClassVar[Mapping[str, Any]] = {
        **JointPPOConfig.bounds,
        "per_task_advantages": Switch,
        "counterfactuals": Natural,
        "demonstrations": Natural,
        "teacher": Literal["planner", "search"],
        "lessons": Count,
        "lesson_interval": Count,
        "search_candidates": Count,
        "imitation_epochs": Count,
    }

    def __init__(self, algo_class: type[Algorithm] | None = None):
        """Set the defaults."""
        super().__init__(algo_class=algo_class or EMHPPO)
        self.decision_per_task = True
        self.per_task_advantages = True
        self.env_runner_cls = EMHPPOEnvRunner
        self.counterfactuals = 0
        self.demonstrations = 0
        self.teacher = "planner"
        self.lessons = 1
        self.lesson_interval = 1
        self.search_candidates = SEARCH_CANDIDATES
        self.imitation_epochs = 2

    def training(
        self,
        *,
        per_task_advantages: bool = NotProvided,  # type: ignore[assignment]
        counterfactuals: int = NotProvided,  # type: ignore[assignment]
        demonstrations: int = NotProvided,  # type: ignore[assignment]
        teacher: str = NotProvided,  # type: ignore[assignment]
        lessons: int = NotProvided,  # type: ignore[assignment]
        lesson_interval: int = NotProvided,  # type: ignore[assignment]
        search_candidates: int = NotProvided,  # type: ignore[assignment]
        imitation_epochs: int = NotProvided,  # type: ignore[assignment]
        **kwargs: Any,
    ) -> Self:
        """Sets the training related configuration.

        Args:
            per_task_advantages: Whether a task slot's decision is credited with its own slot's
                advantage (the paper's per-task critic) or with the sum over the window's slots.
            counterfactuals: How many times each MD's decisions about a window's tasks are drawn
                anew and the window is simulated with them, for advantages of its own (see
                :class:`~rllib_mec.algorithms.emh_ppo.env_runner.EMHPPOEnvRunner`) instead of those
                above; 0 does without. These windows are not counted as env steps.
            demonstrations: Task windows of a teacher that actor and critic imitate before the first
                iteration; 0 starts from scratch, as the paper does. They are not counted as env
                steps. Drawn scenarios have an equal share each.
            teacher: Who demonstrates: ``planner``, a :class:`~rllib_mec.policies.Planner`, which
                searches for plans first; or ``search``, a :class:`~rllib_mec.policies.Lookahead`
                that betters the joined shortest queue in the first lesson, and the networks
                themselves in those that follow, so that they learn without a planner.
            lessons: The demonstrations come in so many equal parts, each imitated by itself. A
                planner has nothing to add after one.
            lesson_interval: Iterations from one lesson to the next; the first comes before the
                first iteration.
            search_candidates: What ``search`` tries for each decision.
            imitation_epochs: Passes over the demonstrations of a lesson.
            **kwargs: Those of :meth:`JointPPOConfig.training`.

        Returns:
            This updated config.
        """
        super().training(**kwargs)
        self._set_provided(
            per_task_advantages=per_task_advantages,
            counterfactuals=counterfactuals,
            demonstrations=demonstrations,
            teacher=teacher,
            lessons=lessons,
            lesson_interval=lesson_interval,
            search_candidates=search_candidates,
            imitation_epochs=imitation_epochs,
        )
        return self

    @property
    def _model_config_auto_includes(self) -> dict[str, Any]:
        if self.env not in ENVIRONMENTS:  # not set yet, or to be refused by `validate`
            return {}
        mdp = make_mdp(str(self.env), self.env_config)
        if self._has_sets:
            return {"mdp": mdp, "parts": own_parts(mdp)}
        layout = laws.layout_of(mdp)
        return {"first_queue": layout["queues"].start} if "queues" in layout.sizes else {}

    def validate(self) -> None:
        """Check the configuration; see the base class."""
        super().validate()
        mdp = make_mdp(str(self.env), self.env_config)
        sizes, num_devices = laws.layout_of(mdp).sizes, mdp.scenario.num_devices
        compare_queues = False
        if self._has_sets:
            SetFeatures(mdp, own_parts(mdp))  # says what it lacks
        else:
            compare_queues = EMHPPOModelConfig.from_dict(self.model_config).compare_queues
        if compare_queues and sizes.get("queues") != num_devices:
            raise MecError(
                f"compare_queues in model_config needs an observation with a part 'queues' of "
                f"{num_devices} numbers, but {self.env} has {dict(sizes)}; set it to false"
            )
        self._check_seen(compare_queues)
        for name in ("counterfactuals", "demonstrations"):
            value = getattr(self, name)
            if value and not mdp.can_simulate:
                raise MecError(
                    f"{name} need steps that can be simulated by themselves, as task windows can: "
                    f"expected 0 for {self.env}, but {name} is {value}"
                )
        self._check_teacher(mdp)

    def _check_teacher(self, mdp: MDP) -> None:
        """Refuse demonstrations that nobody can give, and settings of the teacher who does not."""
        if self.teacher == "search":
            return
        usual_of = {"lessons": 1, "lesson_interval": 1, "search_candidates": SEARCH_CANDIDATES}
        for name, usual in usual_of.items():
            if (given := getattr(self, name)) != usual:
                raise MecError(
                    f"{name} is for teacher 'search', but is {given} with 'planner': "
                    f"expected {usual}"
                )
        if self.demonstrations:
            try:
                check_plannable(mdp)
            except MecError as error:
                raise MecError(f"demonstrations must be 0 here: {error}") from None

    def _check_seen(self, compare_queues: bool) -> None:
        """Refuse what takes the networks to see the MDP's observation, where they do not.

        Counterfactuals do not: they are simulated from the worlds' own state.

        Raises:
            MecError: Queues, each standardised by itself, are to be compared; or demonstrations,
                which pass by the connectors, are to be imitated.
        """
        changes = {
            "observation_filter": self.observation_filter != "NoFilter",
            "env_to_module_connector": bool(self._env_to_module_connector),  # Ray's only name
        }
        for name in (name for name, is_set in changes.items() if is_set):
            if self.demonstrations:
                raise MecError(
                    f"demonstrations must be 0 with an {name}, which they do not pass through, "
                    f"but is {self.demonstrations}"
                )
            if name == "observation_filter" and (compare_queues or self._has_sets):
                wanted = ("model", "'paper'") if self._has_sets else ("compare_queues", "false")
                raise MecError(
                    f"{wanted[0]} in model_config must be {wanted[1]} with an observation_filter, "
                    "which gives every queue a scale of its own"
                )

    @property
    def _has_sets(self) -> bool:
        """Whether ``model_config`` asks for networks that are functions of sets."""
        spec: Any = self._rl_module_spec
        if module := getattr(spec, "module_class", None):
            return isinstance(module, type) and issubclass(module, SetRLModule)
        given = (self._model_config, getattr(spec, "model_config", None))  # nothing added to it yet
        return any(isinstance(each, dict) and each.get("model") == "set" for each in given)

    def joint_module_class(self) -> type[JointRLModule]:
        """EMH-PPO's networks: the paper's, or those that are functions of sets."""
        return SetRLModule if self._has_sets else EMHPPORLModule

    def get_default_learner_class(self) -> type[EMHPPOTorchLearner]:
        """The learner with EMH-PPO's loss."""
        return EMHPPOTorchLearner


class EMHPPO(JointPPO):
    """Embedded multi-agent hybrid PPO."""

    config: EMHPPOConfig

    def training_step(self) -> None:
        """One iteration; a lesson before it, if it is time for one."""
        config = self.config
        lesson, later = divmod(self.iteration, config.lesson_interval)
        if config.demonstrations and lesson < config.lessons and not later:
            self._take_lesson(lesson)
        super().training_step()

    def _take_lesson(self, lesson: int) -> None:
        """Demonstrations of every scenario, of all env runners; the networks imitate them."""

        def by_turns(runner: EMHPPOEnvRunner) -> dict[int, SampleBatch]:
            """Those of the scenarios that this one of the remote env runners is dealt."""
            dealt = largest_first[runner.worker_index - 1 :: num_remote]
            tell = Teller(run, f"{name}: demonstrations", runner.worker_index)
            return runner.demonstrate(lesson, dealt, tell)

        run = PurePath(str(self.logdir)).name  # RLlib loses the trial's id
        name = f"lesson {lesson + 1} of {self.config.lessons}"
        forget(run)  # of a process that was lost
        pool, group = Pool.of(self.config), self.env_runner_group
        num_remote = group.num_remote_env_runners()
        largest_first = sorted(
            range(len(pool)), key=lambda index: -pool.mdps[index].scenario.num_devices
        )
        found: dict[int, SampleBatch] = {}
        if num_remote:
            for part in group.foreach_env_runner(by_turns, local_env_runner=False):
                found |= part
        left = [index for index in range(len(pool)) if index not in found]
        if left:  # there are no remote ones, or some were lost
            local: Any = self.env_runner
            if local is None:
                raise MecError(
                    f"{len(left)} of {len(pool)} demonstrations are missing, as env runners were "
                    "lost: resume, or leave create_local_env_runner true"
                )
            forget(run)
            found |= local.demonstrate(lesson, left, Teller(run, f"{name}: demonstrations"))
        batches = [found[index] for index in range(len(pool))]
        forget(run)
        tell = Teller(run, f"{name}: imitation")
        self.learner_group.foreach_learner(lambda learner: learner.imitate(*batches, tell=tell))
        forget(run)
        group.sync_weights(from_worker_or_learner_group=self.learner_group)

    @classmethod
    def get_default_config(cls) -> EMHPPOConfig:
        """The config this algorithm is built from."""
        return EMHPPOConfig()

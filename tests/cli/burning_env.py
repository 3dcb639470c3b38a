"""An environment that breaks while a trial is running."""

import gymnasium


class BurningEnv(gymnasium.Env):
    """Raises at its 300th step."""

    observation_space = gymnasium.spaces.Box(0, 1, (1,))
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, config):
        self.steps = 0

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}

    def step(self, action):
        self.steps += 1
        if self.steps >= 300:
            raise RuntimeError("the server room is on fire")
        return self.observation_space.sample(), 1.0, self.steps % 10 == 0, False, {}

"""RLlib algorithms: EMH-PPO and what it is compared with."""

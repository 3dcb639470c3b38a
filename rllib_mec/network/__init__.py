"""The network: scenario, radio, event-driven engine. No reinforcement learning, no Ray."""

"""EMH-PPO, the embedded multi-agent hybrid PPO of the paper (Sections IV-C and IV-D)."""

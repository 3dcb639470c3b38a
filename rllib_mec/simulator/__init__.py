"""The physics of collaborative inference in MEC: scenarios, radio, event-driven engine, cost."""

"""All drawing: Gantt charts and films of episodes, training curves, partition points."""

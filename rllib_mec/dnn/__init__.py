"""DNN partitioning: operator graphs, partition points (Algorithm 1), executable halves."""

"""Split inference for real: devices run heads, a MEC server runs tails and decides.

:mod:`~rllib_mec.testbed.device` needs torch and NumPy only, so that it fits a small board;
:mod:`~rllib_mec.testbed.server` runs on Ray Serve (extra ``testbed``).
"""

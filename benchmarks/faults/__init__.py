"""The faults that ``benchmarks/testbed_faults.py`` tries, by kind."""

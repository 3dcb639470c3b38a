"""The machinery of the reproduction suite: trials, their store, and what is made of their results.

An item (a table or figure of the paper) is a script in ``benchmarks/`` that declares its trials and
draws its picture; ``benchmarks/reproduce.py`` runs them.
"""

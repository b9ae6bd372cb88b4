"""Runs with hundreds to thousands of partners on one machine or on Spark: the live machine, drivers, trainer and gate.

One seam differs from a live run: who does the work of a step (`crew`). Links, secrets and clocks are left out.
"""

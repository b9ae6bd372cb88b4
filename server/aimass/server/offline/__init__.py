"""Runs over one organisation's own data set: its shards take part, in processes or on Spark, and stores keep all state.

The run machine, drivers, trainer and gate are those of a live run, in the shell and the crews of `simulation`; what
differs is the site (shards from an object store through a bounded cache) and the journal (a store instead of a folder).
"""

"""Benchmarks: each measures and returns rows; `main` prints and writes them."""

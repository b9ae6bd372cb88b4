"""LPI: why the model predicts this for one row (local)."""

"""A loop of its own, without a strategy, with a state in memory and chance on both sides."""

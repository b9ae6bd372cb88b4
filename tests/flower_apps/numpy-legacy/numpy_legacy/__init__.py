"""A NumPyClient with a strategy of the older kind."""

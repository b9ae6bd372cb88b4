"""A NumPyClient with a strategy of the newer kind."""

"""One module for each version of the run store."""

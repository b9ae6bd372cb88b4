"""Processes that compute, apart from the one that holds the requests."""

"""Handlers by name, and names that nobody handles."""

"""Attacks on the server."""

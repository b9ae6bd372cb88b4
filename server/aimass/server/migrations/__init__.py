"""Migrations of the run store, applied when the server starts."""

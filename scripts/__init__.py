"""The project's own commands for people who work on it."""

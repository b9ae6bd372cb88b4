"""Flower ServerApps as a driver: what they ask of partners is a step, and what came of it stands in a journal."""

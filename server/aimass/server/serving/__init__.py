"""Serving: what was trained answers requests, is watched and replaced."""

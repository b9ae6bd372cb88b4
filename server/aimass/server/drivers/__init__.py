"""Drivers: what to ask next. A driver is pure; it proposes steps and takes their results."""

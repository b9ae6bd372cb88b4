"""Searches for the settings of a plan: many ordinary runs, what they cost said before, and what they come to after."""

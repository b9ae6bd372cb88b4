"""Mods around handlers: of the app, of a function, and Flower's own."""

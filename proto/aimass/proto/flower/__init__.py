"""Flower apps: their records as our blobs, and the little of flwr that has no public name."""

"""Data sets on object storage: cut into shards, described, read."""

"""One node does what it should not."""

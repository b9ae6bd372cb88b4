"""The audit: what can be told from a mechanism's outputs, next to the epsilon that is stated, and broken mechanisms."""

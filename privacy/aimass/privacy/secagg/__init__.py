"""Secure aggregation: the server learns a sum over enough partners and nothing else. docs/secure-aggregation.md."""

"""Differential privacy: mechanisms, their accounting, and the ledger of what a partner has spent."""

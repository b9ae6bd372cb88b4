"""Sums over the spool, and the models and summaries made from them."""

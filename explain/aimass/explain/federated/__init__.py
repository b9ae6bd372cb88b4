"""Explanations over rows that nobody pools: what each partner adds up, and what the sums then say."""

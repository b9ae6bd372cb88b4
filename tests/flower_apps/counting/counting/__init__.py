"""Each node counts in its state how often it was asked."""

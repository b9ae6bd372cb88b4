"""One node fails in evaluation."""

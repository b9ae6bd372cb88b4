"""What all sides of a federation must agree on: formats, plans, steps, errors and the wire."""

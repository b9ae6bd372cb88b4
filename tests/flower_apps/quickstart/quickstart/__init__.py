"""Linear regression over a table of numbers, whose last column is what is predicted."""

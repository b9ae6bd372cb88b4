"""Arrays and values of every kind go there and back."""

"""Each node adds its own number to the model; the server averages as it is told."""

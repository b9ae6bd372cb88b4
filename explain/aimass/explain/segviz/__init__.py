"""Where the model is wrong: over bands of its prediction, over kinds of rows, and over those who hold them."""

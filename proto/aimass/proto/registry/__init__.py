"""The registry of models, read side: what a version is, where it stands, whom to believe, and the reader."""

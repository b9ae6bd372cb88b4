"""The operator's side: coordinates partners, keeps the history, commits models."""

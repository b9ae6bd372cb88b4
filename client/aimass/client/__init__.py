"""The partner's side: the only place where raw data is opened."""

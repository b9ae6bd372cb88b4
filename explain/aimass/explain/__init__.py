"""The analyst's side: reads a server through its API and explains models and runs."""

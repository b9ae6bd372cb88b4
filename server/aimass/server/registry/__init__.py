"""The registry of models, write side: publishing, promotion, lineage, collection, and the commands."""

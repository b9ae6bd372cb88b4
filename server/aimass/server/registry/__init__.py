"""The registry of models, write side: publishing, promotion, aliases, exports, and what collects the rest."""

"""Mathematics and protocols of trust and privacy: no sockets, no model code."""

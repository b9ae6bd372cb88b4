"""`aimass up`: all services on one machine, started, watched and stopped together."""

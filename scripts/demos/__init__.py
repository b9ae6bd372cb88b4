"""The demo: four hospitals, one server, real processes on this machine."""

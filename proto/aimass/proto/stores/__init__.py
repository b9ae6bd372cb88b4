"""The object stores behind `aimass.proto.objects`, one module for each kind."""

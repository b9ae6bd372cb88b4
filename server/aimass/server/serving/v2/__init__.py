"""The Open Inference Protocol, version 2, as pure functions: bytes to requests, answers to bytes, errors to status."""

"""A mount under mixed load for hours, checked against a model all the while; see `python -m soak --help`."""

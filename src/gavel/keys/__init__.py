"""Names of things: tids, record keys, key ranges. Everything above speaks in these."""

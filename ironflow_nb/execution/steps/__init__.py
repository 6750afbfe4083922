"""Performing steps: calls, maps, branches, the cache, the event loop."""

"""Handles of runs: what users get of a run, and what it displays."""

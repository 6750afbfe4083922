"""Executors for clusters whose libraries have none."""

"""Definitions: a step, its parameters and code, and the request of a run."""

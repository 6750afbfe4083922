"""Compensation of runs, breakers, and notifications of their ends."""

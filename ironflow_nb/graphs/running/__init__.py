"""Graphs at work: what runs when, what each node is given, and what becomes of its failures."""

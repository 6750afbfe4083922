"""Deciders: state machines whose events are recorded, with effects, timers and projections."""

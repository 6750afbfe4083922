"""Triggers: what starts flows and graphs without a caller. Schedules, and events that are emitted."""

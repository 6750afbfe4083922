"""Access to the journal: one engine's lock, and the buffer of what one run writes."""

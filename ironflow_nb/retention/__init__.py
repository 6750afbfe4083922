"""Care of the journal: deletion of runs and of values that nothing refers to, and how much space is used by what."""

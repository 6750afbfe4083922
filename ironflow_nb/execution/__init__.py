"""Running: the engine, the memory of a run, and everything that performs, records and answers steps."""

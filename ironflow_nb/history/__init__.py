"""History as data: runs, steps, attempts and events as DataFrames."""

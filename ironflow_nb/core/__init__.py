"""The pure words and rules of a run: no clock, no I/O, no threads, no randomness."""

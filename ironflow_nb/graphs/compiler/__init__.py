"""From a text or data to a graph that can run: reading, checking, compiling."""

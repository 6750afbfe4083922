"""One run while this process executes it: replay, attempts, commits."""

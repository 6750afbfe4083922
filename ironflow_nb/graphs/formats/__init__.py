"""From what a graph is written as to what can run, with everything that is wrong and where."""

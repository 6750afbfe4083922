"""Readers of the files of other engines: each makes a graph of ours of a file, and tells what changes."""

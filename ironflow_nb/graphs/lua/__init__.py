"""Lua in graphs: the process that runs it, and how it is asked."""

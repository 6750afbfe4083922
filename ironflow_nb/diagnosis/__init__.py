"""Checks of a journal, its disk, its processes and its engine, with advice."""

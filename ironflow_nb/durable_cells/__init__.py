"""Durable cells: a whole cell is a step, whose names come back when the notebook is run again."""

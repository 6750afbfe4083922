"""Which code a step is: its function and all that this refers to, as one digest and as parts that can be compared."""

"""Running a compiled graph: the interpreter and the steps of its nodes."""

"""How a journal and its surroundings are, and what to do where something is wrong."""

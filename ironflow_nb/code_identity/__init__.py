"""The code of a step: its function and all user code that it refers to, as one digest and as comparable parts."""

"""What code a step is: its own, and everything in the user's code that it refers to."""

"""The test kit for users: a memory journal, a clock that the test moves, a pytest plugin."""

"""The test kit for users: a memory journal, a clock that the test moves, dying at every commit, a pytest plugin."""

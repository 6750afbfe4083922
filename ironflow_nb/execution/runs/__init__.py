"""Runs: started, executed, finished, stopped, looked up and planned."""

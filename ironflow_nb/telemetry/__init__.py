"""What attempts report beside their results: logs, metrics and progress."""

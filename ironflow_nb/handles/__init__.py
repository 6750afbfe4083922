"""What a person holds of a run."""

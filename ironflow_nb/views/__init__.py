"""What is shown of a journal, as plain values with deltas: every picture, text and card reads these."""

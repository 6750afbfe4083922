"""The notebook: the extension, its magics, cards, and pictures that follow runs."""

"""The notebook face: the extension, its magics, cards, and pictures that follow runs."""

"""Python values as bytes and back: digests identify values, codecs store them, signatures protect them."""

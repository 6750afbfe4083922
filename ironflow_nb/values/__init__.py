"""Python values as bytes and back: digests that identify, codecs that store, signatures that protect."""

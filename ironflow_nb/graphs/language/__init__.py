"""The language of expressions: JMESPath, strictly, with functions beside its own, in texts."""

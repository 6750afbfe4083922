"""The command line: ``python -m ironflow_nb``."""

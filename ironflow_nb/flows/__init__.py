"""The style of flows: Python functions with ``@flow`` and ``@step``."""

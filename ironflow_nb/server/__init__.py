"""Runs over HTTP: the routes of ``ironflow-nb serve``. Two modules know what serves them."""

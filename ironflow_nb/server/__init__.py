"""Runs over HTTP: the routes of ``ironflow-nb serve``, and endpoints. Two modules know what serves them."""

from ironflow_nb.remote.push_endpoint import endpoint as endpoint

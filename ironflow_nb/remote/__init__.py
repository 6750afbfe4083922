"""Runs that are executed by processes which reach their journal over HTTP only."""

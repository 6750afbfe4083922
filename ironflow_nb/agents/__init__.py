"""Agents: flows in which a language model decides which tools are called."""

"""Graphs: declarative flows of nodes, which pass data by JMESPath."""

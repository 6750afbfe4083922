"""Where runs are kept: the port, its adapters, and the schema of the file."""

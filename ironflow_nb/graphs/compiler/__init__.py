"""The compiler of graphs: reads a YAML text or plain data, checks it and makes a `CompiledGraph`."""

"""Large values outside of the journal: in an object store, or in a folder that several machines share."""

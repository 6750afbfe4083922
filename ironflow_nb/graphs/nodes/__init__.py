"""The families of work nodes: what each kind of node does when its turn comes."""

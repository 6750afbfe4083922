"""Who may do what with a journal over HTTP: keys, roles, policies, names of resources, and the audit."""

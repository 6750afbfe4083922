"""The expression language: strict JMESPath with additional functions, and templates of texts with expressions."""

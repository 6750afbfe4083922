"""The journal in two tables of Amazon DynamoDB: a log of commits, which every machine applies to a copy of its own."""

"""Exit policies, one a file: pure rules that say which rows leave."""

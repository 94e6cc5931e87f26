"""A study's results as a page, pictures and tables."""

"""What `offramp demo` runs and measures. Nothing here prints or draws: the command line does."""

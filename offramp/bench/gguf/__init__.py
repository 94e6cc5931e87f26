"""Our models as files that llama.cpp reads: the format, and by family its names and layouts."""

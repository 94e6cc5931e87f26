"""Checkpoints from one form into another, tensor by tensor: formats, types, shards, adapters, depth.

`source` is a checkpoint that has not been read yet; `dtypes`, `lora` and `depth` each make another of it;
`write` puts one on the disk. `llama2c` reads and writes llama2.c's own files.
"""

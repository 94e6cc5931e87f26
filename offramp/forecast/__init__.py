"""What exits will be worth on a model and a machine, before anything is trained. `plan` is the whole of it."""

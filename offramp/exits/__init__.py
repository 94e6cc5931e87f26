"""Early exits: gates decide that a token may leave, bridges turn its hidden state into logits."""

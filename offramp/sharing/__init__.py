"""Exits on the Hugging Face hub: fetched by id, pushed with a card that says what they are."""

"""Pure tensor functions, each with its naive twin. Row-exactness is their contract (design section 4)."""

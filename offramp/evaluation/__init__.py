"""What a generation was worth and what it cost, each number apart (design: honest cost)."""

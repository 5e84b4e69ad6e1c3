"""What would a server hold, and what would a fleet cost? Answered from measured service times."""

"""What the server counts and times, and how that is shown to who scrapes it."""

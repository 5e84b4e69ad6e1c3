"""The search for the capacity: steps, what decides them, what held them back."""

"""What is answered: language model and voice, guarded, and what is said where they fail."""

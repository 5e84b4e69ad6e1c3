"""What a bench or a plan left behind: rows, figures, the answer. Pure."""

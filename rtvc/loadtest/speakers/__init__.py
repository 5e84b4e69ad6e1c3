"""The simulated speakers: who comes when, says what, and is on the line."""

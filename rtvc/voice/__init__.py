"""The voice session: VAD, endpointing, partials, barge-in."""

"""Speech-to-text: the engine, its scheduler, its models."""

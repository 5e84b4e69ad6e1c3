"""Where the time goes, and why: instruments read, logs read, processes sampled, causes named."""

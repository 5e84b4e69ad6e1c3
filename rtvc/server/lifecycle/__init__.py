"""The server as a process: start, signals, reload, stop."""

"""One caller: either protocol's connection, what is heard, what goes out, what is remembered."""

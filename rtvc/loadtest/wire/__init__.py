"""The line between a simulated speaker and a server: protocols, connecting, what goes wrong."""

"""What a server's own log says: `rtvc profile logs`."""

"""What is reachable by HTTP: routes, uploads, their bounds and headers, their description."""

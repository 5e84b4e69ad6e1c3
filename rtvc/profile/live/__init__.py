"""What a running server does, as it does it: `rtvc profile live`."""

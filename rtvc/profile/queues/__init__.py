"""What waited, and how long: `rtvc profile queues`."""

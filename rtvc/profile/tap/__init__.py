"""Every turn, timed between the clients and any server: `rtvc profile tap`."""

"""Where a turn's delay went: `rtvc profile stages`."""

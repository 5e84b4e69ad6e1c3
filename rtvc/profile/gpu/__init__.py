"""What a GPU does, over time: `rtvc profile gpu`."""

"""The operators of a PyTorch program: `rtvc profile torch`."""

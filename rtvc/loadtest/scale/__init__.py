"""More than one generator: processes of this machine, workers on others."""

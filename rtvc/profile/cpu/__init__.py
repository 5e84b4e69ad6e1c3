"""CPU time by stage of the pipeline: `rtvc profile cpu`."""

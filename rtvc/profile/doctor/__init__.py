"""Known causes of delay in a deployment: `rtvc profile doctor`."""

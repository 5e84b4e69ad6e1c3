"""`rtvc bench`: which model, with which settings, on this machine."""

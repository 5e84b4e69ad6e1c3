"""`rtvc fleet`: its verbs, each imported only when called."""

fleet = {
    "simulate": ("rtvc.plan.simulate_command", "Simulate a day of a fleet that scales."),
    "vars": ("rtvc.plan.vars_command", "Write a measured capacity for Terraform."),
}
"""Verb → the module with a function of its name; its line in the help."""

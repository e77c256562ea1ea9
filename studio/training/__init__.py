"""Training: backends, the plan of a run, its events and what they mean. Imports no torch outside of `workers`."""

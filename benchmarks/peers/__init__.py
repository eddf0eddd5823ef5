"""Other ways to do the same work, each run in an environment of its own.

A module here may import what its environment has; of Tandem's packages only what needs
NumPy and SciPy alone.
"""

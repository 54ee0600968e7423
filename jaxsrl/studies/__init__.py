"""Ablations and scaling studies: many runs, what they cost, and how sure one can be of what they say."""

"""Comparing methods under one recipe: what is run, what came out, and what can be said of it."""

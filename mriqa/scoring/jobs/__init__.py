"""Scoring many pictures: sources, tables, and a runner that goes on after any stop."""

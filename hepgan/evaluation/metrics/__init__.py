"""Scores of generated samples, each with its error and its baseline."""

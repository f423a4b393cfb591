"""Evaluation of samples, figures and the report page."""

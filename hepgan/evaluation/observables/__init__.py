"""Observables: functions of events, with one definition for NumPy and PyTorch."""

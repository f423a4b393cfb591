"""Loaders of encoded events: in memory, and streaming from files of any size."""

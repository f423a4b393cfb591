"""Other formats to ROOT."""

"""coffea processors. The only room that imports coffea."""

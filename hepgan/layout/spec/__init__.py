"""Layer words: one frozen dataclass each, with its arguments, output shape and parameter count."""

"""ROOT files to awkward events and back."""

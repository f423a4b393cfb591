"""ROOT files to awkward events and back; the only package that imports uproot."""

"""Run files that come with the package; ``hepgan presets`` lists them."""

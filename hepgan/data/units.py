"""Units of energy, as a schema declares them."""

ENERGY_UNITS = {"eV": 1e-6, "keV": 1e-3, "MeV": 1.0, "GeV": 1e3, "TeV": 1e6}
"""Units of energy [MeV]."""


def energy_ratio(unit: str, other: str) -> float:
    """Returns one ``unit`` of energy in units of ``other``.

    >>> energy_ratio("GeV", "MeV")
    1000.0
    """
    return ENERGY_UNITS[unit] / ENERGY_UNITS[other]

"""What wrong catalogues do to fluxes: table 1 and fig. 19 of the paper, forecast and tried.

Per cent of a parameter's error that makes ten per cent of the flux (the paper's in brackets), its correlation with the
flux in the Fisher forecast, and the scatter of fluxes where the parameter scatters by ten per cent (the background by
one per cent of the sky).

Usage: ``python benchmarks/robustness.py [MODEL]``, ``generic`` by default.
"""

import sys

from lumos.validate.studies.robustness import format_robustness, robustness

if __name__ == "__main__":
    print(format_robustness(robustness(sys.argv[1] if len(sys.argv) > 1 else "generic")))

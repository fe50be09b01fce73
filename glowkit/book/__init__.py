"""What chapters are made with: checked parameters, pictures, figures, controls, and the ledger of claims."""

import os
import sys

INLINE = "module://matplotlib_inline.backend_inline"  # the backend that puts figures into outputs

if "ipykernel" in sys.modules:
    # Figures of a notebook go into it, whatever the reader has chosen for windows. matplotlib will not even be imported
    # if that is the name of no backend.
    os.environ["MPLBACKEND"] = INLINE

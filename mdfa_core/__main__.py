"""`python -m mdfa_core`: the command `mdfa`, for an environment whose scripts are not on the path."""

import os
import sys

if __name__ == "__main__":
    # Python puts the current folder first: a visitor's own random.py or torch.py would be imported in place of the real
    # module. The folder stays if this package comes from it, as in a clone that is not installed.
    current = os.getcwd()
    if sys.path and sys.path[0] == current and os.path.dirname(os.path.dirname(os.path.abspath(__file__))) != current:
        del sys.path[0]

    from mdfa_core.cli import main

    main()

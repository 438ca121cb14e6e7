"""`python -m edgec_runtime` is `edgec-rt`."""

import sys

from edgec_runtime.cli.main import main

sys.exit(main())

"""`python -m peakmem`."""

from peakmem.cli import main

main()

"""`python -m foretaste` is `foretaste`."""

from foretaste.cli import main

main()

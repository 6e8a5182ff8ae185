"""`python -m foretaste` is `foretaste`."""

from foretaste.cli.main import main

main()

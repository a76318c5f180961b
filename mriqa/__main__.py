"""`python -m mriqa` is the `mriqa` command."""

from mriqa.cli import main

main()

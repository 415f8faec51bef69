"""``python -m socm_like.cli``."""

from socm_like.cli import main

main()

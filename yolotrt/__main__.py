"""`python -m yolotrt`."""

from yolotrt.cli import main

main()

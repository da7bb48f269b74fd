"""`python -m yolotrt.cli`."""

from yolotrt.cli import main

main()

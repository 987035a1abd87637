"""`python -m gavel` is the command `gavel`."""

from gavel.cli.main import main

if __name__ == "__main__":
    main()

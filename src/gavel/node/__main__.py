"""`python -m gavel.node` is the process behind a mount; people use `gavel mount`."""

import sys

from gavel.node.launch import parse, serve

if __name__ == "__main__":
    sys.exit(serve(*parse(sys.argv[1:])))

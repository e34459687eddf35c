"""deid: replace every face in photographs and videos by one that cannot be recognised.

The command line is the product (`deid --help`); the package mirrors it. Importing it loads no weights, no
environment and no heavy library: each floor imports what it needs when it is called.
"""

__version__ = "0.1.0"

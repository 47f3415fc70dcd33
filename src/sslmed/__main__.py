"""`python -m sslmed`: the command `sslmed`, for notebooks and where the script is not on the path."""

from ._command import main

if __name__ == "__main__":
    main()

"""`python -m nezha_lite.cli`, for launchers that take a module."""

from nezha_lite.cli import main

if __name__ == "__main__":
    main()

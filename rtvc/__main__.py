"""`python -m rtvc` and the console script."""

from rtvc.cli import main

if __name__ == "__main__":
    main()

"""`python -m mesosctl`: the same as the command `mesosctl`."""

from mesosctl.cli.main import main

if __name__ == "__main__":
    main()

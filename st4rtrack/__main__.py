"""`python -m st4rtrack` is the command `st4rtrack`."""

from st4rtrack.cli.main import main

if __name__ == "__main__":
    main()

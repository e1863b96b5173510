"""``python -m lumos``."""

from lumos.cli import main

if __name__ == "__main__":
    main()

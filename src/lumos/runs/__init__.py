"""Folders that commands begin, continue and finish, and the processes that fill them."""

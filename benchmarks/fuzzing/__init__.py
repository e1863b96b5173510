"""Broken and hostile input: valid files, mutations of them, and a process in which reading them can do no harm."""

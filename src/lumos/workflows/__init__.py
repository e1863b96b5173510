"""What the commands do beyond one call of the library."""

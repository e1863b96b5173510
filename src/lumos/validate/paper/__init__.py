"""What the source paper shows, made again: each figure, table and number beside ours."""

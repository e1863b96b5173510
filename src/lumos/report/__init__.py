"""Pictures and pages. Functions draw on given axes and return them; nothing is computed here."""

"""A service whose truth is known: what a closed loop is worth, round by round."""

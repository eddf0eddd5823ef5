"""A page to look at what is recommended to whom, and why it may be believed."""

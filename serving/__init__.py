"""The embedded model server that speaks TF Serving's API, and a client for it."""

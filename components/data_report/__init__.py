"""The page of the data gate: verdict, checks, accounts and statistics for a person."""

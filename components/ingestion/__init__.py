"""From a service's log to checked training rows that know nothing of their future.

`settings` says what a service declares; `records`, `columns` and `parsing` read and
check; `tables`, `splits`, `rows` and `encoding` make the rows; `pipeline` runs them all
on Beam. Import the module you need: this package imports none of them itself.
"""

"""Does a network fit a device, how far could it grow, and what would make it fit.

`fit` answers; `place` says what a device offers, `answers` what a network needs there, `changes` what may be done about
it and `search` which of that is cheapest.
"""

"""The allocation counter: a preload library of ours, how it gets onto this machine, and what its event log says.

counter.c   stands before malloc, new and mmap in the measured process and keeps the account
build.py    finds the library: a part of the installed package, or compiled on first need
log.py      the event log as data: phases, libraries, a timeline with operators
"""

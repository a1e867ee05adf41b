"""A training step run for real in a process of its own, and what was predicted held against it.

`verify` runs it and compares; `running` starts the process, `measured` makes a log of what it sent, `comparing` says
where two logs part, `resident` reads what a clean process needs. Only what runs in the process needs torch.
"""

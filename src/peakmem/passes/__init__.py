"""What an engine does to a graph before it runs it: passes from Graph to Graph.

A pass is a pure function; it removes operators, merges them or marks aliases. Which passes make
up an execution assumption stands in `assume`.
"""

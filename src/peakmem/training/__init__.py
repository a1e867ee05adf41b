"""Training: what a step allocates, event by event, before it runs and while it runs.

`log` is the data that everything here reads; producers (a trace on tensors without memory, a graph, a run under the
profiler) write it through `recorder`, and peaks, categories, the allocator's simulation and what-ifs are functions of
it.
"""

"""Recorded traces of torch's allocator: read, replayed through the simulator, compared event by event."""

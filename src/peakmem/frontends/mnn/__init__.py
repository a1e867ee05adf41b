"""MNN model files."""

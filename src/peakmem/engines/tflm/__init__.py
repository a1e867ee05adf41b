"""TFLM."""

"""TensorFlow Lite for Microcontrollers: its arena, byte by byte."""

from peakmem.engines.tflm.profile import Tflm

__all__ = ["Tflm"]

"""OpenVINO on its CPU plugin."""

from peakmem.engines.openvino.profile import PROFILE

__all__ = ["PROFILE"]

"""Four networks of the papers written in PyTorch and in Keras, to be read in every format.

Nothing here uses peakmem: what its zoo says of these networks is held against what it reads.
"""

NAMES = ("mobilenet_v1", "mobilenet_v2", "resnet50", "squeezenet1_1")
PAIRS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1),
    (1024, 2), (1024, 1),
)  # fmt: skip
# MobileNet V1: channels out and stride of each separable pair
INVERTED = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
# MobileNet V2: expansion, channels out, repeats, stride of the first
STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))
# ResNet-50: blocks and inner channels
FIRES = ((16, 64), (16, 64), None, (32, 128), (32, 128), None, (48, 192), (48, 192), (64, 256), (64, 256))
# SqueezeNet 1.1 after the first pooling: squeeze and expand channels, None for a pooling

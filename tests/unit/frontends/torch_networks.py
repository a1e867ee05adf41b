"""Well known networks written in PyTorch by hand, to hold captures against the zoo and against PyTorch itself."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


def conv_bn(inside, outside, kernel, stride=1, group=1, act=None):
    layers = [
        nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=group, bias=False),
        nn.BatchNorm2d(outside),
    ]
    return nn.Sequential(*layers, *([act] if act is not None else []))


class Classifier(nn.Module):
    """Features, the mean over the image, one linear layer."""

    def __init__(self, features, channels, classes=1000):
        super().__init__()
        self.features = features
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        return self.fc(torch.flatten(self.pool(self.features(x)), 1))


def mobilenet_v1(*, inplace):
    pairs = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
    layers, inside = [conv_bn(3, 32, 3, 2, act=nn.ReLU(inplace))], 32
    for outside, stride in pairs:
        layers.append(conv_bn(inside, inside, 3, stride, inside, nn.ReLU(inplace)))
        layers.append(conv_bn(inside, outside, 1, act=nn.ReLU(inplace)))
        inside = outside
    return Classifier(nn.Sequential(*layers), inside)


class InvertedResidual(nn.Module):
    def __init__(self, inside, outside, stride, expansion, inplace):
        super().__init__()
        hidden = inside * expansion
        self.residual = stride == 1 and inside == outside
        layers = [conv_bn(inside, hidden, 1, act=nn.ReLU6(inplace))] if expansion != 1 else []
        layers.append(conv_bn(hidden, hidden, 3, stride, hidden, nn.ReLU6(inplace)))
        self.conv = nn.Sequential(*layers, conv_bn(hidden, outside, 1))

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


def mobilenet_v2(*, inplace):
    stages = (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    )  # fmt: skip
    layers, inside = [conv_bn(3, 32, 3, 2, act=nn.ReLU6(inplace))], 32
    for expansion, outside, blocks, stride in stages:
        for block in range(blocks):
            layers.append(InvertedResidual(inside, outside, stride if block == 0 else 1, expansion, inplace))
            inside = outside
    layers.append(conv_bn(inside, 1280, 1, act=nn.ReLU6(inplace)))
    return Classifier(nn.Sequential(*layers), 1280)


class Block(nn.Module):
    """A residual block of ResNet, basic or with a bottleneck."""

    def __init__(self, inside, channels, stride, *, bottleneck, inplace):
        super().__init__()
        outside = 4 * channels if bottleneck else channels
        self.inplace, self.bottleneck = inplace, bottleneck
        first = 1 if bottleneck else 3
        self.conv1 = nn.Conv2d(inside, channels, first, 1 if bottleneck else stride, first // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride if bottleneck else 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        if bottleneck:
            self.conv3 = nn.Conv2d(channels, outside, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(outside)
        self.relu = nn.ReLU(inplace)
        self.downsample = conv_bn(inside, outside, 1, stride) if stride != 1 or inside != outside else None

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.bottleneck:
            y = self.bn3(self.conv3(self.relu(y)))
        identity = x if self.downsample is None else self.downsample(x)
        if self.inplace:
            y += identity
        else:
            y = y + identity
        return self.relu(y)


class ResNet(nn.Module):
    def __init__(self, blocks, *, bottleneck, inplace):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inside = 64
        for stage, (count, channels) in enumerate(zip(blocks, (64, 128, 256, 512), strict=True), start=1):
            layers = []
            for position in range(count):
                stride = 2 if stage > 1 and position == 0 else 1
                layers.append(Block(inside, channels, stride, bottleneck=bottleneck, inplace=inplace))
                inside = 4 * channels if bottleneck else channels
            setattr(self, f"layer{stage}", nn.Sequential(*layers))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(inside, 1000)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def resnet18(*, inplace):
    return ResNet((2, 2, 2, 2), bottleneck=False, inplace=inplace)


def resnet50(*, inplace):
    return ResNet((3, 4, 6, 3), bottleneck=True, inplace=inplace)


class Fire(nn.Module):
    def __init__(self, inside, squeeze, expand, inplace):
        super().__init__()
        self.squeeze = nn.Conv2d(inside, squeeze, 1)
        self.squeeze_activation = nn.ReLU(inplace)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand1x1_activation = nn.ReLU(inplace)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.expand3x3_activation = nn.ReLU(inplace)

    def forward(self, x):
        x = self.squeeze_activation(self.squeeze(x))
        narrow = self.expand1x1_activation(self.expand1x1(x))
        return torch.cat([narrow, self.expand3x3_activation(self.expand3x3(x))], 1)


def squeezenet1_1(*, inplace):
    layers = [nn.Conv2d(3, 64, 3, 2), nn.ReLU(inplace)]
    inside = 64
    for part in ("M", (16, 64), (16, 64), "M", (32, 128), (32, 128), "M", (48, 192), (48, 192), (64, 256), (64, 256)):
        if part == "M":
            layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
        else:
            layers.append(Fire(inside, *part, inplace))
            inside = 2 * part[1]
    layers += [nn.Conv2d(inside, 1000, 1), nn.ReLU(inplace), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers)


def vgg11(*, inplace):
    layers, inside = [], 3
    for part in (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"):
        if part == "M":
            layers.append(nn.MaxPool2d(2, 2))
        else:
            layers += [nn.Conv2d(inside, part, 3, padding=1), nn.ReLU(inplace)]
            inside = part
    layers += [nn.Flatten(), nn.Linear(512 * 49, 4096), nn.ReLU(inplace), nn.Dropout(), nn.Linear(4096, 4096)]
    return nn.Sequential(*layers, nn.ReLU(inplace), nn.Dropout(), nn.Linear(4096, 1000))


class DenseLayer(nn.Module):
    def __init__(self, inside, growth):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inside), nn.Conv2d(inside, 4 * growth, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(4 * growth), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, features):
        x = self.conv1(functional.relu(self.norm1(torch.cat(features, 1)), inplace=True))
        return self.conv2(functional.relu(self.norm2(x), inplace=True))


class DenseBlock(nn.Module):
    def __init__(self, inside, layers, growth):
        super().__init__()
        self.layers = nn.ModuleList(DenseLayer(inside + at * growth, growth) for at in range(layers))

    def forward(self, x):
        features = [x]
        for layer in self.layers:
            features.append(layer(features))
        return torch.cat(features, 1)


def densenet(blocks=(6, 12, 24, 16), growth=32):
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(True), nn.MaxPool2d(3, 2, 1)]
    inside = 64
    for at, count in enumerate(blocks):
        layers.append(DenseBlock(inside, count, growth))
        inside += count * growth
        if at < len(blocks) - 1:
            layers += [nn.BatchNorm2d(inside), nn.ReLU(True), nn.Conv2d(inside, inside // 2, 1, bias=False)]
            layers.append(nn.AvgPool2d(2))
            inside //= 2
    return Classifier(nn.Sequential(*layers, nn.BatchNorm2d(inside), nn.ReLU(True)), inside)


class Inception(nn.Module):
    def __init__(self, inside, one, three, five, pool):
        super().__init__()
        self.branch1 = conv_bn(inside, one, 1, act=nn.ReLU(True))
        self.branch2 = nn.Sequential(
            conv_bn(inside, three[0], 1, act=nn.ReLU(True)), conv_bn(three[0], three[1], 3, act=nn.ReLU(True))
        )
        self.branch3 = nn.Sequential(
            conv_bn(inside, five[0], 1, act=nn.ReLU(True)), conv_bn(five[0], five[1], 3, act=nn.ReLU(True))
        )
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), conv_bn(inside, pool, 1, act=nn.ReLU(True)))

    def forward(self, x):
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


def googlenet():
    return Classifier(
        nn.Sequential(
            conv_bn(3, 64, 7, 2, act=nn.ReLU(True)), nn.MaxPool2d(3, 2, ceil_mode=True),
            conv_bn(64, 64, 1, act=nn.ReLU(True)), conv_bn(64, 192, 3, act=nn.ReLU(True)),
            nn.MaxPool2d(3, 2, ceil_mode=True), Inception(192, 64, (96, 128), (16, 32), 32),
            Inception(256, 128, (128, 192), (32, 96), 64), nn.MaxPool2d(3, 2, ceil_mode=True),
            Inception(480, 192, (96, 208), (16, 48), 64), Inception(512, 160, (112, 224), (24, 64), 64),
        ),
        512,
    )  # fmt: skip


def double_conv(inside, outside):
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, padding=1),
        nn.ReLU(True),
        nn.Conv2d(outside, outside, 3, padding=1),
        nn.ReLU(True),
    )


class UNet(nn.Module):
    def __init__(self, widths=(32, 64, 128, 256)):
        super().__init__()
        self.down = nn.ModuleList(double_conv(a, b) for a, b in zip((3, *widths[:-1]), widths, strict=True))
        pairs = list(zip(widths[1:], widths[:-1], strict=True))[::-1]
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, 2) for a, b in pairs)
        self.merge = nn.ModuleList(double_conv(2 * b, b) for _, b in pairs)
        self.head = nn.Conv2d(widths[0], 1, 1)

    def forward(self, x):
        kept = []
        for at, down in enumerate(self.down):
            x = down(x if at == 0 else functional.max_pool2d(x, 2))
            kept.append(x)
        kept.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([kept.pop(), up(x)], 1))
        return self.head(x)


class SelfAttention(nn.Module):
    def __init__(self, width, heads, *, causal):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        batch, tokens, width = x.shape
        q, k, v = (
            part.view(batch, tokens, self.heads, width // self.heads).transpose(1, 2)
            for part in self.qkv(x).split(width, dim=2)
        )
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.proj(y.transpose(1, 2).reshape(batch, tokens, width))


class Layer(nn.Module):
    def __init__(self, width, heads, *, causal):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = SelfAttention(width, heads, causal=causal)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(0.1))

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT2(nn.Module):
    """GPT-2 small; the head shares the table of the embedding."""

    def __init__(self, layers=12, width=768, heads=12, vocabulary=50257, positions=1024):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(positions, width)
        self.h = nn.ModuleList(Layer(width, heads, causal=True) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, input_ids):
        x = self.wte(input_ids) + self.wpe(torch.arange(input_ids.shape[1], device=input_ids.device))
        for layer in self.h:
            x = layer(x)
        return self.lm_head(self.ln_f(x))


class Bert(nn.Module):
    def __init__(self, layers=6, width=384, heads=6, vocabulary=30522):
        super().__init__()
        self.words, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(512, width)
        self.norm = nn.LayerNorm(width)
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.pooler = nn.Linear(width, width)

    def forward(self, ids):
        x = self.norm(self.words(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device)))
        return torch.tanh(self.pooler(self.encoder(x)[:, 0]))


class ViT(nn.Module):
    def __init__(self, layers=6, width=384, heads=6, patch=16, resolution=224):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, (resolution // patch) ** 2 + 1, width))
        self.layers = nn.Sequential(*(Layer(width, heads, causal=False) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 1000)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.layers(x))[:, 0])


class LSTM(nn.Module):
    """Two layers as the zoo has them."""

    def __init__(self, features=128, hidden=256, layers=2):
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, layers, batch_first=True)

    def forward(self, x):
        return self.lstm(x)[0]


class Llama(nn.Module):
    """A decoder in the shape of Llama: rotary positions, grouped queries, gated feed-forward."""

    class Norm(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(width))

        def forward(self, x):
            return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)

    class Layer(nn.Module):
        def __init__(self, width, hidden, heads, groups):
            super().__init__()
            self.heads, self.groups, self.size = heads, groups, width // heads
            self.input_norm, self.post_norm = Llama.Norm(width), Llama.Norm(width)
            self.q_proj = nn.Linear(width, width, bias=False)
            self.k_proj = nn.Linear(width, groups * self.size, bias=False)
            self.v_proj = nn.Linear(width, groups * self.size, bias=False)
            self.o_proj = nn.Linear(width, width, bias=False)
            self.gate_proj = nn.Linear(width, hidden, bias=False)
            self.up_proj = nn.Linear(width, hidden, bias=False)
            self.down_proj = nn.Linear(hidden, width, bias=False)

        def forward(self, x, cos, sin):
            batch, tokens, width = x.shape
            y = self.input_norm(x)
            q = self.turned(self.q_proj(y).view(batch, tokens, self.heads, self.size).transpose(1, 2), cos, sin)
            k = self.turned(self.k_proj(y).view(batch, tokens, self.groups, self.size).transpose(1, 2), cos, sin)
            v = self.v_proj(y).view(batch, tokens, self.groups, self.size).transpose(1, 2)
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            x = x + self.o_proj(y.transpose(1, 2).reshape(batch, tokens, width))
            y = self.post_norm(x)
            return x + self.down_proj(functional.silu(self.gate_proj(y)) * self.up_proj(y))

        @staticmethod
        def turned(x, cos, sin):
            half = x.shape[-1] // 2
            return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin

    def __init__(self, layers=80, width=8192, hidden=28672, heads=64, groups=8, vocabulary=32000):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(Llama.Layer(width, hidden, heads, groups) for _ in range(layers))
        self.norm, self.lm_head = Llama.Norm(width), nn.Linear(width, vocabulary, bias=False)
        half = width // heads // 2
        self.register_buffer("frequencies", 1.0 / 10000 ** (torch.arange(half) / half), persistent=False)

    def forward(self, ids):
        angles = torch.outer(torch.arange(ids.shape[1], device=ids.device), self.frequencies)
        angles = torch.cat((angles, angles), -1)
        cos, sin = angles.cos(), angles.sin()
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.lm_head(self.norm(x))


def llama_70b():
    return Llama()

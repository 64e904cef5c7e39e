"""The published networks in PyTorch, from their description, as references for imports."""

import torch
from torch import nn
from torch.nn import functional


class Wrapped(nn.Module):
    """The published layers are nested one level deeper, under "module"."""

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.module = nn.Conv2d(inputs, outputs, 3, stride, padding=1)

    def forward(self, x):
        return self.module(x)


class LevelConv(nn.Module):
    """A convolution whose kernel and bias are a linear function of the level."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels
        self.fc = nn.Linear(1, 9 * channels**2 + channels)

    def forward(self, x, level):
        numbers = self.fc(level)
        c = self.channels
        return functional.conv2d(
            x, numbers[: 9 * c * c].reshape(c, c, 3, 3), numbers[9 * c * c :], padding=1
        )


class LevelBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.hy_conv1, self.hy_conv2 = LevelConv(channels), LevelConv(channels)

    def forward(self, x, level):
        return x + self.hy_conv2(functional.relu(self.hy_conv1(x, level)), level)


class PlainBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x, level=None):
        return x + self.conv2(functional.relu(self.conv1(x)))


class Published(nn.Module):
    """HyperRes; with `plain`, the same body with a single set of kernels. The level is z."""

    def __init__(self, colours=3, channels=64, blocks=16, *, plain=False):
        super().__init__()
        conv = nn.Conv2d if plain else Wrapped

        def layer(inputs, outputs, stride=1):
            return conv(inputs, outputs, 3, stride, 1) if plain else conv(inputs, outputs, stride)

        self.conv1 = layer(colours, channels, 2)
        if plain:
            self.res_blocks = nn.ModuleList(PlainBlock(channels) for _ in range(blocks))
        else:
            # The published list begins with an identity, so its blocks are numbered from 1.
            self.res_blocks_meta = nn.ModuleList(
                [nn.Identity(), *(LevelBlock(channels) for _ in range(blocks))]
            )
        self.conv2 = layer(channels, channels)
        self.conv3 = layer(channels, 4 * channels)
        self.conv4 = layer(channels, channels)
        self.conv5 = layer(channels, colours)

    def forward(self, image, level=None):
        """Image (N, C, H, W); odd sizes are padded symmetrically and cropped."""
        height, width = image.shape[2:]
        image = functional.pad(image, (0, width % 2, 0, height % 2), mode="replicate")
        head = self.conv1(image)
        x = head
        blocks = self.res_blocks if hasattr(self, "res_blocks") else self.res_blocks_meta[1:]
        for block in blocks:
            x = block(x, level)
        x = head + self.conv2(x)
        x = functional.relu(functional.pixel_shuffle(self.conv3(x), 2))
        x = self.conv5(functional.relu(self.conv4(x)))
        return x[:, :, :height, :width]


class NoiseLevel(nn.Module):
    def __init__(self, channels=64):
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels, 3, 2, 1)
        layers = [layer for _ in range(4) for layer in (PlainBlock(channels), nn.MaxPool2d(2))]
        self.conv_seq = nn.Sequential(*layers)
        self.fc_seq = nn.Sequential(
            nn.Linear(channels * 16, 32),
            nn.ReLU(),
            nn.Linear(32, 16),
            nn.ReLU(),
            nn.Linear(16, 1),
        )

    def forward(self, image):
        return self.fc_seq(self.conv_seq(self.conv1(image)).flatten(1))


def seeded(make, *args, **options):
    """A module with random weights, no symmetries in its level layers, and outputs of order 1."""
    torch.manual_seed(0)
    module = make(*args, **options).eval()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if ".fc." in name:
                parameter.normal_(0, 0.06 if name.endswith("weight") else 0.03)
            if name.startswith("conv5"):
                parameter.mul_(8)
    return module

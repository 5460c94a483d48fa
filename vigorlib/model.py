"""The network: two unshared branches (backbone, aggregator) and the offset head.

    panorama (B, 3, H, W) -> backbone -> [pool] -> aggregator -> descriptor (B, D) --+
                                                                                     +-> offset (B, 2)
    tile     (B, 3, h, w) -> backbone -> [pool] -> aggregator -> descriptor (B, D) --+

Images go in as RGB in 0..255 (uint8 or float); each backbone's own normalisation is part of the
model. Descriptors come out L2-normalised from ``forward`` and un-normalised from ``describe_*``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vigorlib.home import home
from vigorlib.recompute import recomputed

if TYPE_CHECKING:
    from vigorlib.recipes import Profile, Recipe

Loaded = TypeVar("Loaded")

# -- backbones -------------------------------------------------------------------------------

VGG16_LAYERS = (2, 2, 3, 3, 3)
"""Convolutions in each of VGG-16's five groups; a 2x2 max-pool stands between two groups."""


class Backbone(nn.Module):
    """(B, 3, H, W) -> (B, channels, H/s, W/s)."""

    channels: int

    @torch.no_grad()
    def feature_px(self, height: int, width: int) -> tuple[int, int]:
        """Size of the feature map of an image, seen by sending a blank one through."""
        was_training = self.training
        shape = self.eval()(torch.zeros(1, 3, height, width)).shape
        self.train(was_training)
        return shape[2], shape[3]

    def segments(self) -> Sequence[nn.Module]:
        """Parts that, run in turn, are the backbone: the units of activation checkpointing."""
        return [self]


class VGG(Backbone):
    """VGG-16 up to conv5_3 after ReLU (before the last pooling); narrower and shorter on request.

    (B, 3, H, W) -> (B, channels[-1], H/16, W/16) for five groups. Layers are named ``conv1_1`` ...
    ``conv5_3`` as in the original's weight file.
    """

    def __init__(
        self,
        channels: Sequence[int] = (64, 128, 256, 512, 512),
        layers: Sequence[int] = VGG16_LAYERS,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.channels = channels[-1]
        self.layers = nn.Sequential()
        previous = 3
        for group, (width, depth) in enumerate(zip(channels, layers, strict=True), start=1):
            for layer in range(1, depth + 1):
                convolution = nn.Conv2d(previous, width, 3, padding=1, bias=not batch_norm)
                nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
                self.layers.add_module(f"conv{group}_{layer}", convolution)
                if batch_norm:
                    self.layers.add_module(f"norm{group}_{layer}", nn.BatchNorm2d(width))
                self.layers.add_module(f"relu{group}_{layer}", nn.ReLU(inplace=True))
                previous = width
            if group < len(layers):
                self.layers.add_module(f"pool{group}", nn.MaxPool2d(2))

    def feature_px(self, height: int, width: int) -> tuple[int, int]:
        """Size of the feature map: halved by each pooling."""
        pools = sum(isinstance(layer, nn.MaxPool2d) for layer in self.layers)
        return height >> pools, width >> pools

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)

    def segments(self) -> Sequence[nn.Module]:
        """The groups of convolutions, each with the pooling after it: what is kept is small."""
        pools = [i + 1 for i, part in enumerate(self.layers) if isinstance(part, nn.MaxPool2d)]
        return [self.layers[a:b] for a, b in pairwise([0, *pools, len(self.layers)])]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016), named as torchvision names them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, features: Tensor) -> Tensor:
        residual = F.relu(self.bn1(self.conv1(features)))
        residual = self.bn2(self.conv2(residual))
        return F.relu(residual + self.downsample(features))


class ResNet(Backbone):
    """ResNet of basic blocks: (2, 2, 2, 2) at width 64 is ResNet-18, (3, 4, 6, 3) ResNet-34.

    (B, 3, H, W) -> (B, width * 2^(stages-1), H/s, W/s), s = 2^(stages+1).
    """

    def __init__(self, blocks: Sequence[int] = (2, 2, 2, 2), width: int = 64) -> None:
        super().__init__()
        self.channels = width * 2 ** (len(blocks) - 1)
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.stages = len(blocks)
        inputs = width
        for stage, depth in enumerate(blocks):
            outputs, stride = width * 2**stage, 1 if stage == 0 else 2
            layer = nn.Sequential(ResidualBlock(inputs, outputs, stride))
            layer.extend(ResidualBlock(outputs, outputs, 1) for _ in range(depth - 1))
            self.add_module(f"layer{stage + 1}", layer)
            inputs = outputs

    def forward(self, images: Tensor) -> Tensor:
        features = F.max_pool2d(F.relu(self.bn1(self.conv1(images))), 3, stride=2, padding=1)
        for stage in range(1, self.stages + 1):
            features = getattr(self, f"layer{stage}")(features)
        return features


class TimmBackbone(Backbone):
    """The last feature map of any timm network: (B, 3, H, W) -> (B, channels, H/s, W/s).

    settings: what ``timm.create_model`` takes, for narrower relatives of a network.
    """

    def __init__(self, name: str, pretrained: bool = False, **settings: Any) -> None:
        super().__init__()
        with torch.device("cpu"):  # what timm imports computes, too: torch 2.6's compiler
            import timm

        if not timm.is_model(name):
            close = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:5]) or "none like it"
            raise ValueError(
                f"unknown backbone {name!r}: expected one of {', '.join(BACKBONES)} or a name from "
                f"timm.list_models() (similar there: {close})"
            )

        def make() -> nn.Module:
            return timm.create_model(name, pretrained=pretrained, features_only=True, **settings)

        device = torch.empty(0).device  # where layers are being made
        try:
            self.network = make()
        except RuntimeError:
            if device.type != "meta":
                raise
            with torch.device("cpu"):  # a release that computes with numbers while it builds
                self.network = make().to(device)
        self.channels = self.network.feature_info.channels()[-1]  # type: ignore[operator,union-attr]

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)[-1]


BACKBONES: dict[str, Callable[[], Backbone]] = {
    "vgg16": VGG,
    "resnet18": ResNet,
    "resnet34": lambda: ResNet((3, 4, 6, 3)),
    "vgg16-narrow": lambda: VGG((12, 24, 64, 160), layers=(1, 1, 1, 1), batch_norm=True),
    "resnet-narrow": lambda: ResNet((1, 1, 1), width=32),
    "regnet-narrow": lambda: TimmBackbone(
        "regnety_004", out_indices=(0, 1, 2)
    ),  # two stages of four
    "vgg16-tiny": lambda: VGG((8, 8, 16, 16), layers=(1, 1, 1, 1)),
}
"""Backbones by name; add your own (a module with ``.channels``) to use it in a recipe."""


def backbone(name: str, pretrained: bool = False, weights: str = "torchvision") -> Backbone:
    """A backbone by its name here, or else by its name in timm (``resnet50`` for instance).

    pretrained: ImageNet weights from torchvision or timm, which fetch them over the network once;
    with ``weights="caffe"`` the original's, from :data:`CAFFE_FILE`.
    """
    if weights == "caffe" and pretrained:
        return _load_caffe(name)
    if name not in BACKBONES:
        return _with_download_advice(name, lambda: TimmBackbone(name, pretrained))
    network = BACKBONES[name]()
    if pretrained:
        _with_download_advice(name, lambda: _load_torchvision(network, name))
    return network


def _load_torchvision(network: nn.Module, name: str) -> None:
    """Copy torchvision's ImageNet weights into one of our backbones, position by position."""
    import torchvision

    if name not in ("vgg16", "resnet18", "resnet34"):
        raise ValueError(
            f"there are no ImageNet weights for {name!r}: expected vgg16, resnet18, resnet34 or a "
            "timm name; or build it with pretrained=False"
        )
    state = torchvision.models.get_model(name, weights="DEFAULT").state_dict()
    wanted = network.state_dict()
    values = [value for key, value in state.items() if not key.startswith(("classifier", "fc."))]
    if [value.shape for value in values] != [value.shape for value in wanted.values()]:
        raise RuntimeError(f"torchvision's {name} no longer has the layers of ours")
    network.load_state_dict(dict(zip(wanted, values, strict=True)))


CAFFE_FILE = "data/vgg16-caffe.safetensors"
"""Under the project's folder: the original's ImageNet weights, layers named as in :class:`VGG`."""


def _load_caffe(name: str) -> Backbone:
    """VGG-16 with the original's weights, which ``data_prep.official`` has put in place."""
    if name != "vgg16":
        raise ValueError(
            f"there are no Caffe weights for {name!r}: expected the backbone vgg16; use a profile "
            "with weights='torchvision' for others"
        )
    file = home() / CAFFE_FILE
    if not file.exists():
        raise FileNotFoundError(
            f"the original's weights are not in {file}: prepare them with `python -m "
            "data_prep.official weights vgg16.npy`, or use a profile with weights='torchvision'"
        )
    from safetensors.torch import load_file

    with without_weights():  # they come from the file
        network = VGG()
    network.layers.load_state_dict(load_file(file), assign=True)
    return network


class WeightsUnavailable(RuntimeError):
    """ImageNet weights that have to be fetched, and could not be."""


def _with_download_advice(name: str, load: Callable[[], Loaded]) -> Loaded:
    try:
        return load()
    except OSError as error:
        raise WeightsUnavailable(
            f"the ImageNet weights of {name!r} could not be fetched ({error}). Fetch them once on "
            "a machine with network access and copy its torch and Hugging Face caches here, or "
            "train from scratch with pretrained=False"
        ) from error


class Normalise(nn.Module):
    """RGB images in 0..255 -> what the backbone was made for. Nothing here is learned.

    ``caffe``: BGR minus the means of the original's loader; ``imagenet``: torchvision's mean and
    deviation; ``centred``: -1..1, for networks trained from scratch.
    """

    MEANS_AND_SCALES = {
        # the loader subtracts 123.6 from red; the original's backbone file says 123.68
        "caffe": ((103.939, 116.779, 123.6), (1.0, 1.0, 1.0)),
        "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
        "centred": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    }

    def __init__(self, kind: str) -> None:
        super().__init__()
        if kind not in self.MEANS_AND_SCALES:
            raise ValueError(
                f"unknown normalisation {kind!r}: expected one of {', '.join(self.MEANS_AND_SCALES)}"
            )
        mean, scale = self.MEANS_AND_SCALES[kind]
        self.bgr = kind == "caffe"
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(scale).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        images = images.flip(1) if self.bgr else images
        return (images - self.mean) / self.scale


# -- aggregators -----------------------------------------------------------------------------


class SAFA(nn.Module):
    """Spatial-aware feature aggregation: ``heads`` learned weightings of the positions.

    The channel-wise maximum (B, H*W) goes through two linear layers without activation,
    H*W -> H*W/2 -> H*W, one pair for each head; each head sums the features with its weights.
    (B, C, H, W) -> (B, heads*C), un-normalised, heads first, then channels. Weights start as a
    truncated normal of deviation 0.005, biases as 0.1. Source: Shi et al. 2019, without the polar
    transform, as VIGOR uses it.
    """

    def __init__(self, height: int, width: int, heads: int = 8) -> None:
        super().__init__()
        self.height, self.width, self.heads = height, width, heads
        positions, hidden = height * width, height * width // 2
        if hidden < 1:
            raise ValueError(f"a {height}x{width} feature map is too small for SAFA: expected 2+")
        self.w1 = nn.Parameter(torch.empty(positions, hidden, heads))
        self.b1 = nn.Parameter(torch.full((1, hidden, heads), 0.1))
        self.w2 = nn.Parameter(torch.empty(hidden, positions, heads))
        self.b2 = nn.Parameter(torch.full((1, positions, heads), 0.1))
        for weight in (self.w1, self.w2):
            nn.init.trunc_normal_(weight, std=0.005, a=-0.01, b=0.01)

    def position_weights(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, heads, H, W): how much each head counts each position."""
        if features.shape[2:] != (self.height, self.width):
            raise ValueError(
                f"features are {features.shape[2]}x{features.shape[3]}: this SAFA was built for "
                f"{self.height}x{self.width}; build the model for your image size"
            )
        peak = features.amax(dim=1).flatten(1)  # (B, H*W)
        hidden = torch.einsum("bi,ijd->bjd", peak, self.w1) + self.b1
        weights = torch.einsum("bjd,jid->bdi", hidden, self.w2) + self.b2.transpose(1, 2)
        return weights.unflatten(2, (self.height, self.width))

    def forward(self, features: Tensor) -> Tensor:
        weights = self.position_weights(features)
        return torch.einsum("bchw,bdhw->bdc", features, weights).flatten(1)


class GeM(nn.Module):
    """Generalised mean over positions, (mean x^p)^(1/p), then a linear layer. (B, C, H, W) -> (B, D).

    p is learned from 3 on: 1 is the average, infinity the maximum. Source: Radenovic et al. 2019.
    """

    def __init__(self, project: nn.Module) -> None:
        super().__init__()
        self.project = project
        self.p = nn.Parameter(torch.tensor(3.0))

    def forward(self, features: Tensor) -> Tensor:
        powers = features.float().clamp_min(1e-3) ** self.p  # (B, C, H, W)
        return self.project(powers.mean(dim=(2, 3)) ** (1 / self.p))


class FlattenProject(nn.Module):
    """The reproduction report's aggregator: reweighted maps are flattened and projected, not summed.

    Each of ``heads`` generators (H*W -> H*W/2 -> H*W on the channel maximum) reweights the map; the
    flattened maps are concatenated and projected. (B, C, H, W) -> (B, dimension).
    """

    def __init__(
        self, channels: int, height: int, width: int, heads: int = 4, dimension: int = 4096
    ) -> None:
        super().__init__()
        positions, hidden = height * width, max(height * width // 2, 1)
        self.generators = nn.ModuleList(
            nn.Sequential(nn.Linear(positions, hidden), nn.Linear(hidden, positions))
            for _ in range(heads)
        )
        self.project = nn.Linear(heads * channels * positions, dimension)

    def forward(self, features: Tensor) -> Tensor:
        peak = features.amax(dim=1).flatten(1)
        maps = [
            (features * generator(peak).unflatten(1, features.shape[2:])[:, None]).flatten(1)
            for generator in self.generators
        ]
        return self.project(torch.cat(maps, dim=1))


class GlobalAverage(nn.Module):
    """Mean over positions, then a linear layer: the Siamese baseline. (B, C, H, W) -> (B, D)."""

    def __init__(self, project: nn.Module) -> None:
        super().__init__()
        self.project = project

    def forward(self, features: Tensor) -> Tensor:
        return self.project(features.mean(dim=(2, 3)))


# -- the whole network -----------------------------------------------------------------------


class Branch(nn.Module):
    """One view: normalise, backbone, optional 2x2 max-pool, aggregate. (B, 3, H, W) -> (B, D).

    checkpoint: while training, keep only what enters the backbone's segments for the backward pass
    and compute the rest again there.
    """

    def __init__(
        self, normalise: Normalise, network: Backbone, pool: bool, checkpoint: bool = False
    ) -> None:
        super().__init__()
        self.normalise, self.backbone, self.pool = normalise, network, pool
        self.checkpoint = checkpoint
        self.aggregator: nn.Module = nn.Identity()

    def features(self, images: Tensor) -> Tensor:
        """The last feature map before pooling (conv5_3 for VGG-16): what explanations look at."""
        images = self.normalise(images)
        if self.checkpoint and self.training and torch.is_grad_enabled():
            return recomputed(self.segments(), images)
        return self.backbone(images)

    def segments(self) -> Sequence[nn.Module]:
        """What checkpointing recomputes one after the other: a plain module is one segment."""
        network = self.backbone
        return network.segments() if isinstance(network, Backbone) else [network]

    def pooled(self, features: Tensor) -> Tensor:
        """The feature map as the aggregator sees it."""
        return F.max_pool2d(features, 2) if self.pool else features

    def aggregate(self, features: Tensor) -> Tensor:
        """Feature map -> un-normalised descriptor."""
        return self.aggregator(self.pooled(features))

    def position_weights(self, images: Tensor) -> Tensor:
        """What SAFA makes of images: (B, 3, H, W) -> (B, heads, h, w), h x w its feature map."""
        if not isinstance(self.aggregator, SAFA):
            raise ValueError(
                f"the aggregator is {type(self.aggregator).__name__}: expected SAFA, the only one "
                "that weights positions"
            )
        return self.aggregator.position_weights(self.pooled(self.features(images)))

    def forward(self, images: Tensor) -> Tensor:
        return self.aggregate(self.features(images))


class OffsetHead(nn.Module):
    """Offset from the pair of un-normalised descriptors, satellite first (VIGOR section 3.4).

    ground, satellite: (B, D) -> (B, 2) offsets [north, east] in units of half a tile.
    cells: 0 to regress the offset; else it is a class, one of cells x cells on the central square
    where a positive's query stands (10 x 10: 3.6 m a cell), and the offset is its cell's centre.
    rescale: for training from scratch, where the released code's head does not do: each descriptor
    is brought to length sqrt(D) first (lengths drift), and the last layer starts at zero, so that
    the first prediction is the tile's centre and an untrained head does not shake the backbone.
    """

    def __init__(
        self, dimension: int, hidden: int = 512, rescale: bool = False, cells: int = 0
    ) -> None:
        super().__init__()
        self.rescale, self.cells = rescale, cells
        self.layers = nn.Sequential(
            nn.Linear(2 * dimension, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, cells**2 if cells else 2),
        )
        if rescale:
            for parameter in self.layers[-1].parameters():
                nn.init.zeros_(parameter)

    def forward(self, ground: Tensor, satellite: Tensor) -> Tensor:
        scores = self.scores(ground, satellite)
        return self.centre_of(scores.argmax(dim=1)) if self.cells else scores

    def cell_of(self, offset: Tensor) -> Tensor:
        """(B, 2) offsets in half tiles -> (B,) cells, row by row; beyond the square: the nearest."""
        place = ((offset + 0.5) * self.cells).floor().long().clamp(0, self.cells - 1)
        return place[:, 0] * self.cells + place[:, 1]

    def centre_of(self, cell: Tensor) -> Tensor:
        """(B,) cells -> (B, 2) offsets of their centres."""
        place = torch.stack([cell // self.cells, cell % self.cells], dim=1)
        return (place + 0.5) / self.cells - 0.5

    def scores(self, ground: Tensor, satellite: Tensor) -> Tensor:
        """What is trained: the offset (B, 2), or a score for each cell (B, cells^2)."""
        if self.rescale:
            ground, satellite = (
                F.normalize(x, dim=1) * x.shape[1] ** 0.5 for x in (ground, satellite)
            )
        return self.layers(torch.cat([satellite, ground], dim=1))


class CrossViewNet(nn.Module):
    """Two branches that do not share weights and, for recipes with a hybrid stage, the offset head.

    dimension: length D of a descriptor.
    """

    def __init__(
        self, ground: Branch, satellite: Branch, dimension: int, offset: OffsetHead | None
    ) -> None:
        super().__init__()
        self.ground, self.satellite, self.offset = ground, satellite, offset
        self.dimension = dimension

    def describe_ground(self, panoramas: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D), un-normalised."""
        return self.ground(panoramas).float()

    def describe_satellite(self, tiles: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, D), un-normalised."""
        return self.satellite(tiles).float()

    def forward(self, panoramas: Tensor, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """Panoramas (B, 3, H, W) and tiles (N, 3, h, w) -> L2-normalised (B, D) and (N, D)."""
        ground, satellite = self.describe_ground(panoramas), self.describe_satellite(tiles)
        return F.normalize(ground, dim=1), F.normalize(satellite, dim=1)


NORMALISATION_OF = {"torchvision": "imagenet", "caffe": "caffe"}
"""What images must look like for a profile's ``weights``."""


class _Undrawn(TorchFunctionMode):
    """Initial weights are not drawn."""

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if getattr(func, "__name__", "") in ("normal_", "uniform_"):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


@contextmanager
def without_weights() -> Iterator[None]:
    """Layers that are made here have shapes and no memory.

    Drawing weights that are not there would make torch import its compiler, which takes seconds.
    """
    with torch.device("meta"), _Undrawn():
        yield


def build(
    recipe: Recipe | str, profile: Profile | str = "mini", imagenet: bool = True
) -> CrossViewNet:
    """The network of a recipe at the size of a profile, with fresh (or ImageNet) weights.

    imagenet: False leaves ImageNet weights out where the profile has them, for a network whose
    weights are loaded next; its normalisation is the same.

    Draws its initial weights from torch's current generator: call ``torch.manual_seed`` first, or
    train through :func:`vigorlib.runs.load_or_train`, which does.
    """
    from vigorlib.recipes import get_profile, get_recipe

    recipe, profile = get_recipe(recipe), get_profile(profile)
    name = profile.backbones.get(recipe.backbone, recipe.backbone)
    if profile.weights not in NORMALISATION_OF:
        known = ", ".join(NORMALISATION_OF)
        raise ValueError(f"unknown weights {profile.weights!r}: expected one of {known}")
    kind = NORMALISATION_OF[profile.weights] if profile.pretrained else "centred"
    pretrained = profile.pretrained and imagenet
    pool = profile.pool and recipe.aggregator != "average"  # the original averages conv5_3 itself
    branches = [
        Branch(
            Normalise(kind),
            backbone(name, pretrained, profile.weights),
            pool,
            profile.checkpoint_activations,
        )
        for _ in range(2)
    ]
    shapes = [
        _feature_shape(branch, size)
        for branch, size in zip(branches, (profile.panorama_px, profile.tile_px), strict=True)
    ]
    channels = branches[0].backbone.channels
    dimension = channels * recipe.heads if recipe.aggregator == "safa" else profile.dimension
    shared = nn.Linear(channels, dimension) if recipe.aggregator in ("average", "gem") else None
    for branch, shape in zip(branches, shapes, strict=True):
        branch.aggregator = _aggregator(recipe, channels, shape, dimension, shared)
    return CrossViewNet(
        branches[0], branches[1], dimension, _offset_head(recipe, profile, dimension)
    )


def _offset_head(recipe: Recipe, profile: Profile, dimension: int) -> OffsetHead | None:
    if recipe.offset not in ("regression", "classification", "none"):
        raise ValueError(
            f"unknown offset {recipe.offset!r}: expected 'regression', 'classification' or 'none'"
        )
    if not recipe.hybrid or recipe.offset == "none":
        return None
    cells = recipe.offset_cells if recipe.offset == "classification" else 0
    return OffsetHead(dimension, profile.offset_hidden, profile.offset_rescale, cells)


def _aggregator(
    recipe: Recipe, channels: int, shape: tuple[int, int], dimension: int, shared: nn.Module | None
) -> nn.Module:
    if recipe.aggregator == "safa":
        return SAFA(*shape, heads=recipe.heads)
    if recipe.aggregator == "flatten":
        return FlattenProject(channels, *shape, heads=recipe.heads, dimension=dimension)
    if recipe.aggregator == "average" and shared is not None:
        return GlobalAverage(shared)
    if recipe.aggregator == "gem" and shared is not None:
        return GeM(shared)
    raise ValueError(
        f"unknown aggregator {recipe.aggregator!r}: expected 'safa', 'average', 'gem' or 'flatten'"
    )


def _feature_shape(branch: Branch, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the aggregator's input."""
    height, width = branch.backbone.feature_px(*size)
    return (height // 2, width // 2) if branch.pool else (height, width)

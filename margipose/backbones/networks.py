"""Features of Inception-v4 and of any timm network.

timm builds whole networks; what is deeper than the features asked for is cut off, and neither kept nor
computed. It is imported when the first backbone is built, not with this module.

Sources: the MargiPose paper (section 3.3, Inception-v4 up to its first Inception-A block); Tan and Le,
"EfficientNet", and the EfficientNet-Lite release.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import re
import sys
from collections.abc import Sequence
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from margipose.backbones.extractor import IMAGENET_MEAN, IMAGENET_STD, STRIDE, FeatureExtractor

__all__ = ["InceptionV4Features", "TimmFeatures", "dilated_resnet_groups"]

_INCEPTION_BLOCKS = 7

_defined_operators: list[torch.library.Library] = []


class InceptionV4Features(FeatureExtractor):
    """The first seven blocks of Inception-v4, with padding that makes every size a clean division.

    Inception-v4 pads nothing in most layers, so that its feature cells do not tile the image. Here each
    convolution and max-pool pads half of its kernel on both sides.
    """

    def __init__(self, pretrained: bool = False) -> None:
        super().__init__()
        net = _create("inception_v4", pretrained)
        self.blocks = nn.Sequential(*list(net.features.children())[:_INCEPTION_BLOCKS])
        for module in self.blocks.modules():
            if isinstance(module, nn.Conv2d):
                module.padding = tuple(k // 2 for k in module.kernel_size)
            elif isinstance(module, nn.MaxPool2d):
                module.padding = module.kernel_size // 2
        self.channels = 384

    def forward(self, images: Tensor) -> Tensor:
        return self.blocks(images)

    def early_layers(self, stride: int) -> list[nn.Module]:
        if stride != STRIDE:
            raise ValueError(f"backbone 'inceptionv4': has features at stride {STRIDE} only, not at {stride}")
        return [self.blocks]


class TimmFeatures(FeatureExtractor):
    """The features of one stride of any timm network that has them, or can be made to.

    Some networks (many transformers) take images of one size only, or of few: where another is refused, the
    error says so. That the features are what they should be is tried once, when the network is built.

    Args:
        name: as in `timm.list_models()`, perhaps with a weight tag (`resnet18.tv_in1k`).
        pretrained: fetch timm's ImageNet weights.
        context: append the features of so many coarser strides, each twice the one before it, enlarged
            (nearest cell): each has a wider field of view, at a quarter of the positions of the one before.
        stride: input pixels per cell.
        dilated: use the whole network rather than cut it off at that stride: what would be coarser keeps
            the stride and is dilated instead.

    Raises:
        ValueError: if there is no such network, it has no features at that stride (or those of `context`),
            or they are not maps of that stride; from `forward`, for a size of image that the network cannot
            take.
    """

    def __init__(
        self,
        name: str,
        pretrained: bool = False,
        context: int = 0,
        stride: int = STRIDE,
        dilated: bool = False,
    ) -> None:
        super().__init__()
        self.name = name
        strides = tuple(stride << level for level in range(context + 1))
        if dilated:
            self.net = _dilated(name, pretrained, stride)
        else:
            with torch.device("meta"):  # only to look at
                available = _create(name, features_only=True).feature_info.reduction()
            missing = [s for s in strides if s not in available]
            if missing:
                has = sorted(set(available))
                raise ValueError(f"backbone {name!r}: has no features at stride {missing[0]}, only at {has}")
            indices = tuple(available.index(s) for s in strides)
            self.net = _create(name, pretrained, features_only=True, out_indices=indices)
            _cut_after_last_feature(self.net)
        self.channels = sum(self.net.feature_info.channels())
        self._channels_last = getattr(self.net, "output_fmt", "NCHW") == "NHWC"
        self._picky = False
        if next(self.net.parameters()).device.type != "meta":  # there, only names and shapes matter
            self._try_out(strides)

    def forward(self, images: Tensor) -> Tensor:
        first, *deeper = self._maps(images)
        if not deeper:
            return first
        size = first.shape[-2:]
        return torch.cat([first] + [F.interpolate(d, size=size) for d in deeper], 1)

    def early_layers(self, stride: int) -> list[nn.Module]:
        """See `FeatureExtractor.early_layers`; strides that the network has no name for are refused, too."""
        modules = {info["reduction"]: info["module"] for info in self.net.feature_info.info}
        if stride not in modules:
            has = ", ".join(map(str, sorted(modules)))
            raise ValueError(f"backbone {self.name!r}: has no features at stride {stride}, only at {has}")
        child, _, part = modules[stride].partition(".")
        flat = f"{child}_{part}" if part else child  # timm names the parts of what it takes apart like this
        layers: list[nn.Module] = []
        for name, module in self.net.named_children():
            if name == flat:
                return [*layers, module]
            if name == child and part.isdigit() and isinstance(module, nn.Sequential):
                return [*layers, *module[: int(part) + 1]]
            layers.append(module)
        raise ValueError(f"backbone {self.name!r}: its layers up to stride {stride} cannot be told apart")

    def _maps(self, images: Tensor) -> list[Tensor]:
        # How a network refuses a size is its own affair. Where every size should do, a RuntimeError is
        # something else, and so is one of a kind of its own, such as running out of memory.
        try:
            maps = self.net(images)
        except (AssertionError, IndexError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not (self._picky and type(error) is RuntimeError):
                raise
            size = f"{images.shape[3]}x{images.shape[2]} px"
            raise ValueError(
                f"backbone {self.name!r}: cannot take images of {size} ({_first_line(error)})"
            ) from error
        return [m.permute(0, 3, 1, 2) for m in maps] if self._channels_last else list(maps)

    def _try_out(self, strides: tuple[int, ...]) -> None:
        """Compare the features with what is known of them: at any size, or the network's own."""
        own = (getattr(self.net, "pretrained_cfg", None) or {}).get("input_size", (3, 224, 224))
        weight = next(self.net.parameters())
        training = self.net.training
        self.net.eval()
        for self._picky, (height, width) in ((False, (64, 96)), (True, own[1:])):
            try:
                with torch.no_grad():
                    maps = self._maps(
                        torch.zeros(1, 3, height, width, dtype=weight.dtype, device=weight.device)
                    )
                break
            except Exception as error:  # whatever a network does with an image it does not like
                reason = error
        else:
            raise ValueError(
                f"backbone {self.name!r}: computes no features, not even of the {own[2]}x{own[1]} px that it "
                f"was made for ({_first_line(reason)})"
            ) from reason
        self.net.train(training)
        channels = self.net.feature_info.channels()
        for features, count, stride in zip(maps, channels, strides):
            shape, expected = tuple(features.shape[1:]), (count, height // stride, width // stride)
            if shape != expected:
                raise ValueError(
                    f"backbone {self.name!r}: its features at stride {stride} are {shape} for an image of "
                    f"{width}x{height} px, where {expected} was expected"
                )


def dilated_resnet_groups(name: str, pretrained: bool = False) -> tuple[nn.Module, nn.Module]:
    """The last two groups of layers of a ResNet, at stride 8: for features that `build_backbone` gave.

    Their strides become 1, and their 3x3 convolutions are dilated by 2 and 4, as the DSNT paper does to
    get larger heatmaps.
    """
    net = _create(name, pretrained)
    _dilate(net.layer3, 2)
    _dilate(net.layer4, 4)
    return net.layer3, net.layer4


def _dilate(group: nn.Module, dilation: int) -> None:
    """Let a ResNet's group of layers keep its input's resolution."""
    for module in list(group.modules()):
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            if module.kernel_size == (3, 3):
                module.dilation = module.padding = (dilation, dilation)
        for name, child in module.named_children():
            if isinstance(child, nn.AvgPool2d):  # before the shortcut's convolution, in some variants
                setattr(module, name, nn.Identity())


def _dilated(name: str, pretrained: bool, stride: int) -> nn.Module:
    """A whole network, as an extractor of its last features, that is dilated from a stride on."""
    with torch.device("meta"):  # only to look at
        outline = _create(name, features_only=True)
    last = (len(outline.feature_info.reduction()) - 1,)
    groups = [f"layer{i}" for i in range(1, 5)]
    if not set(groups) <= {n for n, _ in outline.named_children()}:
        other = {"features_only": True, "out_indices": last, "output_stride": stride}
        fits = False
        with torch.device("meta"), contextlib.suppress(ValueError):
            fits = _create(name, **other).feature_info.reduction()[-1] == stride
        if not fits:
            raise ValueError(f"backbone {name!r}: cannot be dilated to stride {stride}; try it cut off there")
        return _create(name, pretrained, **other)
    if stride not in (4, 8, 16, 32):
        raise ValueError(f"backbone {name!r}: can be dilated to strides 4, 8, 16 and 32, not {stride}")
    net = _create(name, pretrained, features_only=True, out_indices=last)
    reached, dilation = 4, 1
    for group in groups[1:]:
        if reached < stride:
            reached *= 2
        else:
            dilation *= 2
            _dilate(getattr(net, group) if hasattr(net, group) else net[group], dilation)
    return net


# --- timm -----------------------------------------------------------------------------------------


def _timm() -> ModuleType:
    """Import timm, also beside a torchvision whose compiled operators do not load.

    timm imports torchvision (for transforms that are not used here). A torchvision built for CUDA cannot
    load its operators beside a CPU build of torch, and then fails half-way through its import, when it
    describes those operators to the compiler. It is content if the names exist, so they are declared,
    without an implementation, and the import starts over: nothing here calls them.
    """
    for _ in range(8):
        try:
            return importlib.import_module("timm")
        except RuntimeError as error:
            found = re.fullmatch(r"operator (torchvision)::(\w+) does not exist", str(error).strip())
            if not found:
                raise
            library = torch.library.Library(found[1], "FRAGMENT")
            library.define(f"{found[2]}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _defined_operators.append(library)  # a library's operators live only as long as it does
            for name in [n for n in sys.modules if n.partition(".")[0] in ("timm", "torchvision")]:
                del sys.modules[name]
    raise RuntimeError("timm cannot be imported: too many of torchvision's operators are missing")


def _create(name: str, pretrained: bool = False, **kwargs: object) -> nn.Module:
    timm = _timm()
    if not timm.is_model(name.partition(".")[0]):
        names = ["inceptionv4", *timm.list_models()]
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
        hint = f"; did you mean {near[0]!r}?" if near else "; timm.list_models() names the valid ones"
        raise ValueError(f"backbone: no network is called {name!r}{hint}")
    try:
        net = timm.create_model(name, pretrained=pretrained, **kwargs)
    except Exception as error:  # whatever a constructor or a hub thinks of
        if torch.get_default_device().type == "meta":  # older timm reads numbers back while it builds
            with torch.device("cpu"):
                return _create(name, pretrained, **kwargs).to("meta")
        if pretrained:
            raise ValueError(
                f"backbone {name!r}: its pretrained weights could not be fetched ({_first_line(error)}). "
                "Use pretrained=False, or a machine that can reach timm's hub once: they stay in its cache"
            ) from error
        raise ValueError(
            f"backbone {name!r}: timm cannot build it as a feature extractor ({_first_line(error)})"
        ) from error
    if pretrained:
        _take_our_images(net, name, net.pretrained_cfg["mean"], net.pretrained_cfg["std"])
    return net


@torch.no_grad()
def _take_our_images(net: nn.Module, name: str, mean: Sequence[float], std: Sequence[float]) -> None:
    """Fold the normalisation that weights expect into the first layers, in place of ImageNet's statistics.

    Raises:
        ValueError: if what follows the first convolution cannot take up a shift.
    """
    theirs, spread = torch.tensor(mean), torch.tensor(std)
    if torch.equal(theirs, IMAGENET_MEAN) and torch.equal(spread, IMAGENET_STD):
        return
    modules = list(net.modules())
    first = next(i for i, m in enumerate(modules) if isinstance(m, nn.Conv2d))
    stem, after = modules[first], modules[first + 1] if first + 1 < len(modules) else None
    shift = (stem.weight.sum((-1, -2)) * ((IMAGENET_MEAN - theirs) / spread)).sum(-1)
    if stem.bias is not None:
        stem.bias += shift
    elif isinstance(after, nn.BatchNorm2d) and after.running_mean is not None:
        after.running_mean -= shift
    else:
        raise ValueError(
            f"backbone {name!r}: its weights expect images normalised by {tuple(mean)} and {tuple(std)}, "
            "which cannot be folded into its first layer; use pretrained=False"
        )
    stem.weight *= (IMAGENET_STD / spread)[:, None, None]


def _cut_after_last_feature(net: nn.Module) -> None:
    """timm prunes most feature extractors itself, but those of the EfficientNet family run to their end."""
    last = re.fullmatch(r"blocks\.(\d+)", net.feature_info.get_dicts()[-1].get("module", ""))
    if last and isinstance(getattr(net, "blocks", None), nn.Sequential):
        net.blocks = net.blocks[: int(last[1]) + 1]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

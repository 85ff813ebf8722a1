"""A network's answers to an image and to its mirror image, as one.

Where both agree the pose is surer; where they do not, often about which side is left, the heatmaps'
geometric mean keeps what both find possible. A mean of the coordinates would lie between two answers, where
no joint is.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from margipose.dsnt import Marginals, marginals_to_coords, pool_heatmaps
from margipose.model import PoseOutput
from margipose.skeleton import Skeleton, get_skeleton, mirror
from margipose.spec import InputSpec

__all__ = ["predict_mirrored"]


def predict_mirrored(network: Callable[[Tensor], PoseOutput], images: Tensor, spec: InputSpec) -> PoseOutput:
    """What a network says of images and of their mirror images, which it is shown in one batch of `2 B`.

    Args:
        images: `B x 3 x H x W`, normalised.
        spec: what the network is fed.

    Returns:
        Coordinates `B x J x D`; of a network of marginal heatmaps the last stage's, each the geometric mean
        of both answers, and the coordinates of these. Other networks' coordinates are averaged, and there
        are no stages.
    """
    out = network(torch.cat((images, mirrored_images(images, spec))))
    skeleton = get_skeleton(spec.skeleton)
    if out.stages and isinstance(out.stages[-1], Marginals):
        plain, other = (Marginals(*half) for half in zip(*(plane.chunk(2) for plane in out.stages[-1])))
        both = zip(plain, mirrored_marginals(other, skeleton))
        pooled = Marginals(*(pool_heatmaps(torch.stack(pair), spatial_dims=2) for pair in both))
        return PoseOutput(marginals_to_coords(pooled), (pooled,))
    plain_norm, other_norm = out.coords_norm.chunk(2)
    sign = torch.ones_like(other_norm[0, 0])
    sign[0] = -1
    return PoseOutput((plain_norm + mirror(other_norm * sign, skeleton)) / 2, ())


def mirrored_images(images: Tensor, spec: InputSpec) -> Tensor:
    """Images `... x H x W` whose left and right change places about their middle.

    Normalised x is 0 there, but for the affine crop of a camera whose principal point lies elsewhere: its
    mirror image moves the whole person by the same.
    """
    flipped = images.flip(-1)
    if (spec.centre, spec.pixel_centres) == ("principal", "integer"):
        # Normalised x is 0 at pixel W/2 then, which flipping has moved to W/2 - 1.
        flipped = torch.cat((flipped[..., :1], flipped[..., :-1]), -1)
    return flipped


def mirrored_marginals(marginals: Marginals, skeleton: Skeleton) -> Marginals:
    """Heatmaps `... x J x rows x columns` of a person whose left and right have changed places."""
    order = skeleton.indices(skeleton.mirrors)
    xy, zy, xz = (plane[..., order, :, :] for plane in marginals)
    return Marginals(xy.flip(-1), zy, xz.flip(-1))

"""Batch normalisation over the examples of all processes.

PyTorch's own is for GPUs only; this one computes the same anywhere, in any process group.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["SynchronisedBatchNorm", "synchronise"]

_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class _Normalise(torch.autograd.Function):
    """Normalised input `N x C x ...`; means, variances and count of all processes' inputs."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        dims = [d for d in range(x.dim()) if d != 1]
        var, mean = torch.var_mean(x.float() if x.dtype.itemsize < 4 else x, dims, correction=0)
        ours = torch.cat([mean, var, mean.new_full((1,), x.numel() // x.shape[1])]).double()
        all_ = [torch.empty_like(ours) for _ in range(dist.get_world_size())]
        dist.all_gather(all_, ours)
        means, vars_, counts = torch.stack(all_).split([len(mean), len(mean), 1], 1)
        count = counts.sum()
        # The variance of a union of groups: within them, and between them.
        centre = (counts * means).sum(0) / count
        spread = (counts * (vars_ + (means - centre) ** 2)).sum(0) / count
        mean, var = centre.to(mean.dtype), spread.to(var.dtype)
        ctx.save_for_backward(x, weight, mean, var, count)
        ctx.eps = eps  # type: ignore[attr-defined]
        ctx.mark_non_differentiable(mean, var, count)
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps), mean, var, count

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: torch.autograd.function.FunctionCtx, grad: Tensor, *_: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        x, weight, mean, var, count = ctx.saved_tensors  # type: ignore[attr-defined]
        eps: float = ctx.eps  # type: ignore[attr-defined]
        scale = torch.ones_like(mean) if weight is None else weight
        # As if the statistics were constants: dx, and the sums of dy (x - mean) / sd and of dy.
        dx, dw, db = torch.ops.aten.native_batch_norm_backward(
            grad, x, scale, mean, var, None, None, False, eps, [True, True, True]
        )
        sums = torch.stack([dw, db]).double()
        dist.all_reduce(sums)
        # What moving them adds is linear in x.
        along, total = (sums / count).to(mean.dtype)
        by_sd = (var + eps).rsqrt()
        slope = -scale * by_sd * by_sd * along
        shape = [1, -1, *[1] * (x.dim() - 2)]
        offset = -scale * by_sd * total - slope * mean
        dx = torch.addcmul(dx + offset.view(shape), x, slope.view(shape)).to(x.dtype)
        return dx, *((dw, db) if weight is not None else (None, None)), None


class SynchronisedBatchNorm(_BatchNorm):
    """Batch normalisation with the parameters and statistics of another one, over all processes.

    In training, every process of the default group calls it for each batch. The activation that timm's
    normalisation has in it comes along.
    """

    def __init__(self, source: _BatchNorm) -> None:
        """Take over a module.

        Raises:
            ValueError: for a kind of normalisation that is not known.
        """
        super().__init__(
            source.num_features, source.eps, source.momentum, source.affine, source.track_running_stats
        )
        self.weight, self.bias = source.weight, source.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            setattr(self, name, getattr(source, name))
        self.training = source.training
        if type(source) in _PLAIN:
            return
        if not (isinstance(source.__dict__["_modules"].get("act"), nn.Module) and hasattr(source, "drop")):
            raise ValueError(f"{type(source).__name__} cannot be synchronised over several processes")
        self.drop, self.act = source.drop, source.act

    def forward(self, x: Tensor) -> Tensor:
        y = self._normalised(x)
        return self.act(self.drop(y)) if hasattr(self, "act") else y

    @torch.compiler.disable
    def _normalised(self, x: Tensor) -> Tensor:
        if not self.training:
            nothing = self.running_mean is None
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, nothing, eps=self.eps
            )
        y, mean, var, count = _Normalise.apply(x, self.weight, self.bias, self.eps)
        if self.running_mean is not None:
            self.num_batches_tracked += 1
            keep = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
            self.running_mean.lerp_(mean, keep)
            self.running_var.lerp_((var.double() * count / (count - 1)).to(var.dtype), keep)
        return y


def synchronise(model: nn.Module) -> nn.Module:
    """The network with each batch normalisation in it computed over all processes, by the same names.

    On a GPU by PyTorch's own, elsewhere by `SynchronisedBatchNorm`.

    Raises:
        ValueError: for a kind of normalisation that is not known.
    """
    if isinstance(model, _BatchNorm):
        return _synchronised(model)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, _BatchNorm):
                setattr(module, name, _synchronised(child))
    return model


def _synchronised(module: _BatchNorm) -> _BatchNorm:
    if isinstance(module, (SynchronisedBatchNorm, nn.SyncBatchNorm)):
        return module
    if module.running_mean is not None and module.running_mean.device.type != "cuda":
        return SynchronisedBatchNorm(module)
    if type(module) in _PLAIN:
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    from timm.layers import convert_sync_batchnorm  # of a network that timm built, so that it is there

    return convert_sync_batchnorm(module)

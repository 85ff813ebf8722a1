"""Claim a: DSNT adds no parameters, and is differentiable end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from experiments.claims.findings import Findings
from experiments.claims.sizes import STRATEGIES, Size, hourglass
from experiments.claims.training import TEST, batch_of, draw_people
from margipose.draw.figures import new_figure, small_text
from margipose.dsnt import euclidean_losses, make_gauss
from margipose.heads import Head, HeadSpec
from margipose.model import build_model
from margipose.spec import InputSpec


def measure(size: Size, folder: Path) -> Findings:
    """Parameters, gradients against finite differences, and how much gradient reaches the first layer."""
    images, joints = draw_people(4, size.px, TEST)
    batch = batch_of(images, joints, InputSpec(size.px, size.px))
    rows, numbers = [], {}
    for name, head in STRATEGIES.items():
        torch.manual_seed(0)
        model = build_model(hourglass(size, head, size.px))
        added = sum(p.numel() for p in model.heads.parameters())
        out = model(batch.image)
        distance = euclidean_losses(out.coords_norm[..., :2], batch.target_norm[..., :2]).mean()
        reached = 0.0
        if distance.requires_grad:
            distance.backward()
            reached = float(torch.linalg.vector_norm(model.stem[0].weight.grad))
        exact = _gradcheck(head)
        numbers[name] = {"added": added, "gradient_at_first_layer": reached, "gradcheck": exact}
        rows.append(
            [name, f"{added}", "none" if exact is None else "passes" if exact else "fails", f"{reached:.2g}"]
        )
    dsnt, matching = numbers["DSNT"], numbers["heatmap matching"]
    holds = (
        dsnt["added"] == 0
        and dsnt["gradcheck"] is True
        and dsnt["gradient_at_first_layer"] > 0
        and matching["gradient_at_first_layer"] == 0
    )
    return Findings(
        claim="DSNT adds no trainable parameters and is differentiable end to end.",
        holds="yes" if holds else "no",
        says=f"DSNT adds {dsnt['added']} parameters, the fully connected layer "
        f"{numbers['fully connected']['added']}. The gradient of the distance reaches the network's "
        "first layer "
        "through DSNT; through the argmax of heatmap matching none does.",
        headers=["strategy", "parameters added", "gradcheck (float64)", "gradient's norm at the first layer"],
        rows=rows,
        setup=f"One hourglass, freshly initialised, {size.px} px; gradient of the mean distance of four "
        "pictures' joints; finite differences on 5 x 5 maps.",
        numbers=numbers,
        figure=_figure(),
    )


def _gradcheck(head: HeadSpec) -> bool | None:
    """Whether coordinates have the gradient that finite differences say; None if they have none."""
    torch.manual_seed(0)
    codec = Head(HeadSpec("fc", cells=5) if head.strategy == "fc" else head).double()
    maps = torch.randn(1, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    if not codec(maps).coords_norm.requires_grad:
        return None
    return torch.autograd.gradcheck(lambda m: codec(m).coords_norm, (maps,), raise_exception=False)


def _figure():
    """A heatmap, its target, and what the distance tells each of its cells."""
    n, target = 28, torch.tensor([[0.45, -0.3]])
    scores = 9 * make_gauss(torch.tensor([[-0.35, 0.3]]), (n, n), 3.0, normalize=False)
    figure = new_figure(8.6, 3.7)
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, 3)
    panels = [("heatmap", scores[0].numpy(), "magma")]
    for name, head in (("DSNT", HeadSpec()), ("argmax", HeadSpec("heatmap"))):
        logits = scores.clone().requires_grad_()
        distance = euclidean_losses(Head(head)(logits).coords_norm, target).sum()
        gradient = torch.zeros(n, n)
        if distance.requires_grad:
            gradient = torch.autograd.grad(distance, logits)[0][0]
        panels.append((f"gradient of the distance\nthrough {name}", gradient.numpy(), "RdBu_r"))
    for ax, (title, values, colours) in zip(axes, panels):
        most = max(float(np.abs(values).max()), 1e-9)
        low = 0 if colours == "magma" else -most
        ax.imshow(values, colours, vmin=low, vmax=most, extent=(-1, 1, 1, -1))
        ax.plot(
            *target[0],
            "+",
            color="white" if colours == "magma" else "black",
            markersize=12,
            markeredgewidth=2,
        )
        ax.set_title(title, fontsize=10)
        small_text(ax)
    figure.supxlabel("+ target. Red cells should shrink, blue ones grow; white: no gradient", fontsize=9)
    return figure

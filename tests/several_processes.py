"""What the tests of distributed training run in each of several processes.

torchrun --nproc-per-node 2 tests/several_processes.py checks JOBS.json
torchrun --nproc-per-node 2 tests/several_processes.py train KEY=VALUE ...
"""

import json
import os
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from margipose.cli import main
from margipose.config import combine
from margipose.data import PoseDataset, load_records
from margipose.evaluate import evaluate, get_protocol
from margipose.model import build_model
from margipose.spec import InputSpec
from margipose.train import Interrupted, engine, fit
from margipose.train.batch_norm import SynchronisedBatchNorm, synchronise
from margipose.train.distributed import evaluate_together, joined

LABELS = PoseDataset._labels


def few_joints(labels):
    """`PoseDataset._labels` of people of whom unequal numbers of joints count."""

    def fewer(self, index):
        joints, valid = labels(self, index)
        return joints, valid & (torch.arange(len(valid)) < 5 + index * 7 % 13)

    return fewer


def check_what_processes_tell_each_other(world):
    assert world.size == 2
    assert world.sum([1, world.rank, 2**51 + world.rank]) == [2, 1, 2**52 + 1]
    assert world.gather(f"rank {world.rank}") == ["rank 0", "rank 1"]
    assert world.from_main(lambda: os.getpid()) == world.gather(os.getpid())[0]
    blocks = world.gather_rows(torch.full((3 * world.rank, 2), float(world.rank)))
    assert [b.shape for b in blocks] == [(0, 2), (3, 2)]
    assert blocks[1].eq(1).all()


def check_that_an_error_is_everyones(world):
    def failing(*ranks, error):
        try:
            with world.agreed(), world.agreed():
                if world.rank in ranks:
                    raise error
        except (Exception, Interrupted) as raised:
            return type(raised), str(raised)
        raise AssertionError("went on")

    first = failing(0, error=ValueError("no such file"))
    assert first == (ValueError, ("" if world.main else "process 0 of 2: ") + "no such file")
    second = failing(1, error=OSError("disk full"))
    assert second == (OSError, "process 1 of 2: disk full")
    both = failing(0, 1, error=ValueError("bad"))
    assert both == (ValueError, "bad" if world.main else "process 0 of 2: bad")
    fault = failing(1, error=TypeError("oops"))
    assert fault == ((OSError, "process 1 of 2: TypeError: oops") if world.main else (TypeError, "oops"))
    assert failing(1, error=Interrupted("stopped")) == (Interrupted, "stopped")
    world.only_main(lambda: None)


def check_batch_normalisation(world):
    """Over unequal shares of a batch, in float64: what one process computes of the whole."""
    build_model("lite")  # timm's normalisation with an activation in it
    from timm.layers import BatchNormAct2d

    def network():
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3),
            nn.BatchNorm2d(6),
            nn.Conv2d(6, 5, 1),
            BatchNormAct2d(5, act_layer=nn.SiLU),
            nn.Sequential(nn.Conv2d(5, 4, 1), nn.BatchNorm2d(4, affine=False, momentum=None)),
        ).double()

    whole, part = network(), synchronise(network())
    assert isinstance(part[4][1], SynchronisedBatchNorm)
    assert list(part.state_dict()) == list(whole.state_dict())
    torch.manual_seed(2)
    rows = slice(0, 5) if world.main else slice(5, 8)
    for _ in range(3):
        x, w = torch.randn(8, 3, 6, 7).double() * 3 + 1, torch.randn(8, 4, 4, 5).double()
        mine = x[rows].to(memory_format=torch.channels_last).requires_grad_()
        x.requires_grad_()
        y, ours = whole(x), part(mine)
        torch.testing.assert_close(ours, y[rows], rtol=1e-11, atol=1e-11)
        gradients = [torch.autograd.grad((y * w).sum(), [x, *whole.parameters()])]
        gradients.append(torch.autograd.grad((ours * w[rows]).sum(), [mine, *part.parameters()]))
        torch.testing.assert_close(gradients[1][0], gradients[0][0][rows], rtol=1e-9, atol=1e-9)
        for a, b in zip(gradients[0][1:], gradients[1][1:], strict=True):
            torch.testing.assert_close(world.sum_(b.clone()), a, rtol=1e-9, atol=1e-9)
    for (key, a), b in zip(whole.state_dict().items(), part.state_dict().values(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-10, atol=1e-10, msg=key)
    torch.testing.assert_close(part.eval()(x[:1]), whole.eval()(x[:1]), rtol=1e-9, atol=1e-9)
    half = synchronise(nn.Sequential(nn.BatchNorm2d(3)))
    with torch.autocast("cpu", torch.bfloat16):
        half(torch.randn(4, 3, 5, 5).bfloat16().requires_grad_()).float().square().sum().backward()
    assert half[0].weight.grad.isfinite().all()


def check_evaluation(world, settings):
    """All examples once, in the same batches: bit for bit what one process finds."""
    records = load_records("mpi3d", settings["data_roots"]["mpi3d"], "test")
    dataset, protocol = PoseDataset(records, InputSpec(64, 64)), get_protocol("mpi3d")
    torch.manual_seed(3)
    model = build_model(combine([], settings).model).eval()
    for batch_size in (3, 32):  # the last batch is smaller; there is one batch for two processes
        alone = evaluate(model, dataset, protocol, batch_size=batch_size)
        together = evaluate_together(world, model, dataset, protocol, batch_size=batch_size)
        assert torch.equal(together.joints, alone.joints)
        assert together.overall() == alone.overall()
    assert len(dataset) % 3


def checks(jobs):
    """All of the above, then the trainings that are asked for; what they log goes to a file per process."""
    with joined() as world:
        for name, check in globals().items():
            if name.startswith("check_"):
                check(world, *([jobs[0]] if name == "check_evaluation" else []))
        for number, settings in enumerate(jobs):
            few, chance = settings.pop("few_joints", False), settings.pop("chance", False)
            PoseDataset._labels = few_joints(LABELS) if few else LABELS
            engine.build_model = with_chance(build_model) if chance else build_model
            logged = []
            result = fit(combine([], settings), lambda *entry, to=logged: to.append(entry))
            found = None if result.evaluation is None else result.evaluation.overall().values
            about = {"logged": logged, "values": found}
            Path(settings["run_dir"], f"told_{number}_{world.rank}.json").write_text(json.dumps(about))


def with_chance(build):
    """`build_model` with dropout in front of the network."""

    def built(*args):
        model = build(*args)
        model.register_forward_pre_hook(lambda m, given: (F.dropout(given[0], 0.1, m.training),))
        return model

    return built


def train(words):
    """The command, for a network with dropout; the process's number goes to a file."""
    folder = next(word for word in words if word.startswith("run_dir=")).partition("=")[2]
    Path(f"{json.loads(folder)}.pid{os.environ['RANK']}").write_text(str(os.getpid()))
    engine.build_model = with_chance(build_model)
    return main(["train", *words])


if __name__ == "__main__":
    if sys.argv[1] == "train":
        sys.exit(train(sys.argv[2:]))
    checks(json.loads(Path(sys.argv[2]).read_text()))

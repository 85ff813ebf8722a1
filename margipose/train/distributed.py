"""Several processes that train one network, each on its part of every batch.

`torchrun` starts them, on one host or several. They go through the same steps and end with the same
weights as one process would (but for the order in which numbers are added). The first of them, *main*, alone
touches the run's directory and tells what is going on.

What a process is among others comes from PyTorch's launcher; nothing here reads the environment.
"""

from __future__ import annotations

import contextlib
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from margipose.data import PoseDataset
from margipose.evaluate import Evaluation, Protocol, predict_joints, score_records
from margipose.train.batch_norm import synchronise
from margipose.train.stopping import Interrupted

__all__ = ["World", "evaluate_together", "joined", "mark"]

T = TypeVar("T")

_COURTESY_S = 2.0
_POLL_S = 0.05

_LOST = "another process of this run has ended, or cannot be reached any more"


class World:
    """The processes of a run, as one of them sees them. By default, it is alone.

    Every method but the properties is called by all processes, in the same order.

    Attributes:
        rank: number of this process, from 0.
        size: how many there are.
        local_rank: number of this process on its host.
    """

    def __init__(self, rank: int = 0, size: int = 1, local_rank: int = 0) -> None:
        self.rank, self.size, self.local_rank = rank, size, local_rank

    @property
    def main(self) -> bool:
        """Whether this process is the one that speaks for all."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        return self.size == 1

    def sum(self, values: Sequence[float]) -> list[float]:
        """Sums over the processes, exact for whole numbers."""
        if self.alone:
            return [float(v) for v in values]
        sums = torch.tensor(values, dtype=torch.float64)
        with self.connected():
            dist.all_reduce(sums)
        return sums.tolist()

    def sum_(self, values: Tensor) -> Tensor:
        """A tensor, on the device that the processes compute on, replaced by its sum over them."""
        if not self.alone:
            with self.connected():
                dist.all_reduce(values)
        return values

    def gather(self, value: T) -> list[T]:
        """Each process's value, by rank."""
        if self.alone:
            return [value]
        found: list[Any] = [None] * self.size
        with self.connected():
            dist.all_gather_object(found, value)
        return found

    def gather_rows(self, values: Tensor) -> list[Tensor]:
        """Each process's `n x ...` tensor, by rank; they differ in `n` only. On the CPU."""
        if self.alone:
            return [values]
        counts = [int(n) for n in self.gather(len(values))]
        padded = values.new_zeros(max(counts), *values.shape[1:])
        padded[: len(values)] = values
        found = [torch.empty_like(padded) for _ in counts]
        with self.connected():
            dist.all_gather(found, padded)
        return [block[:n] for block, n in zip(found, counts)]

    def from_main(self, work: Callable[[], T]) -> T:
        """What the main process gets from `work`, which no other runs.

        Raises:
            Exception: whatever it raises.
        """
        with self.agreed():
            found = [work() if self.main else None]
        if not self.alone:
            with self.connected():
                dist.broadcast_object_list(found, src=0)
        return found[0]  # type: ignore[return-value]

    def only_main(self, work: Callable[[], object]) -> None:
        """The main process does something; the others wait until it is done.

        Raises:
            Exception: whatever it raises.
        """
        with self.agreed():
            if self.main:
                work()

    @contextlib.contextmanager
    def agreed(self) -> Iterator[None]:
        """A block that either all processes get through or none does.

        Raises:
            Exception: that of this process, if it has one; else `OSError` or `ValueError` with the message
                of the first that has.
            Interrupted: if any process was.
        """
        try:
            yield
        except (Exception, Interrupted) as error:
            if _known(error) is None:
                self.agree(error)
            raise
        self.agree(None)

    def agree(self, error: BaseException | None) -> None:
        """Tell the others whether something went wrong here, and raise what did here or elsewhere."""
        if self.alone:
            if error is not None:
                raise error
            return
        try:
            found = self.gather(None if error is None else _described(error))
        except OSError:
            if error is not None:
                raise error from None  # whatever became of the others
            raise
        failures = [(rank, *f) for rank, f in enumerate(found) if f is not None]
        if not failures:
            return
        interrupted = [text for _, kind, text in failures if kind == "interrupted"]
        if interrupted:
            raise mark(Interrupted(interrupted[0]), "all") from error
        if error is not None and _described(error)[0] == "fault":
            raise mark(error, "here")
        if error is not None and self.main:
            raise mark(error, "all")
        rank, kind, text = failures[0]
        raise mark(_KINDS.get(kind, OSError)(f"process {rank} of {self.size}: {text}"), "all") from error

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """A block that communicates.

        Raises:
            ConnectionError: if it cannot, because another process is gone.
        """
        try:
            yield
        except RuntimeError as error:
            if self.alone or not _is_lost(error):
                raise
            raise mark(ConnectionError(_LOST), "all") from error

    def device(self, device: torch.device) -> torch.device:
        """The device of this process, where a kind of device was asked for.

        Raises:
            ValueError: if there are fewer GPUs here than processes, or all were given the same.
        """
        if self.alone or device.type != "cuda":
            return device
        if device.index is not None:
            raise ValueError(f"device '{device}': {self.size} processes cannot share it; give 'cuda'")
        count = torch.cuda.device_count()
        if self.local_rank >= count:
            raise ValueError(f"there are more processes on this host than its {count} GPUs; give device=cpu")
        torch.cuda.set_device(self.local_rank)
        return torch.device("cuda", self.local_rank)

    def parallel(self, model: nn.Module) -> nn.Module:
        """A network that computes gradients over all processes, as their mean; it shares its weights.

        The model itself gets normalisation over all processes, by the same names.

        Raises:
            ValueError: for a kind of normalisation that cannot be computed so.
        """
        if self.alone:
            return model
        synchronise(model)
        device = next(model.parameters()).device
        with self.connected(), warnings.catch_warnings():
            # Its successor is not there yet in all versions that are supported.
            warnings.filterwarnings("ignore", message=".*broadcast_buffers.*", category=FutureWarning)
            return DistributedDataParallel(
                model,
                device_ids=[device] if device.type == "cuda" else None,
                broadcast_buffers=False,  # statistics come out equal
                gradient_as_bucket_view=True,
            )


def evaluate_together(
    world: World,
    model: nn.Module,
    dataset: PoseDataset,
    protocol: Protocol,
    *,
    batch_size: int = 32,
    workers: int = 0,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> Evaluation:
    """As `evaluate`, with the work shared: every process gets the whole result.

    The batches that one process would see are dealt out whole, the last and smaller one like the others: each
    example is predicted once, in the same company.

    Raises:
        ValueError: as `evaluate`; in every process alike.
    """
    count = len(dataset)
    dealt = [[i for i in range(count) if i // batch_size % world.size == rank] for rank in range(world.size)]
    with world.agreed():
        joints = predict_joints(
            model,
            dataset,
            protocol,
            rows=None if world.alone else dealt[world.rank],
            batch_size=batch_size,
            workers=workers,
            device=device,
            progress=progress and world.main,
        )
    blocks = world.gather_rows(joints)
    whole = joints.new_empty(count, *joints.shape[1:])
    for rows, block in zip(dealt, blocks):
        whole[rows] = block
    with world.agreed():
        return score_records(whole, dataset.labelled(protocol.skeleton), protocol, dataset.skeleton)


@contextlib.contextmanager
def joined() -> Iterator[World]:
    """The processes that this one was started with, for as long as the block runs.

    Under `torchrun`, they are those of the launch, and the outermost `joined` also sees to it that an error
    that all of them know about is reported once: it leaves the block of the main process, while the others
    end with the exit code of the `margipose` command. A process group that exists already is used as it is.

    Raises:
        SystemExit: in processes other than the main one, for errors that this one reports.
    """
    if not dist.is_available():
        yield World()
    elif dist.is_initialized():
        yield World(dist.get_rank(), dist.get_world_size(), dist.get_node_local_rank(dist.get_rank()))
    elif not dist.is_torchelastic_launched():
        yield World()
    else:
        _initialise()
        world = World(dist.get_rank(), dist.get_world_size(), dist.get_node_local_rank())
        try:
            yield world
        except (Exception, Interrupted) as error:
            if world.main or _known(error) != "all":
                raise
            # The launcher ends all when the first one ends: the one with the message needs its time.
            time.sleep(_COURTESY_S)
            raise SystemExit(130 if isinstance(error, Interrupted) else 2) from error
        finally:
            dist.destroy_process_group()


def _met(store: dist.Store, rank: int, size: int) -> str:
    """A name for this start of the processes, which all of them agree on, and none that ended before.

    Every process leaves a name of its own. The main one answers each that it finds, until as many have
    received an answer as there are: what a process that is gone left behind is answered, too, but never
    received.
    """
    mine = uuid.uuid4().hex
    if rank > 0:
        store.set(f"here/{rank}", mine)
        name = store.get(f"welcome/{mine}").decode()  # waits for it
        store.add(f"received/{name}", 1)
        return name
    answered = set()
    deadline = time.monotonic() + store.timeout.total_seconds()
    while store.add(f"received/{mine}", 0) < size - 1:
        if time.monotonic() > deadline:
            raise dist.DistStoreError("not all of them came")
        there = [key for key in (f"here/{other}" for other in range(1, size)) if store.check([key])]
        for other in {store.get(key).decode() for key in there} - answered:
            store.set(f"welcome/{other}", mine)
            answered.add(other)
        time.sleep(_POLL_S)
    return mine


def _initialise() -> None:
    """Join the processes of the launch, or of its restart.

    Raises:
        ConnectionError: if they cannot be reached.
    """
    try:
        store, rank, size = next(iter(dist.rendezvous("env://")))
        # PyTorch sets the launcher's store apart by the number of restarts, which hosts count on their own:
        # where a process died it is one more than where it did not.
        while isinstance(store, dist.PrefixStore):
            store = store.underlying_store
        # Restarted processes find that store as those before them left it, with their addresses.
        store = dist.PrefixStore(_met(store, rank, size), store)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    except RuntimeError as error:
        raise ConnectionError(
            f"the other processes of this run cannot be reached ({str(error).splitlines()[0]})"
        ) from error


_KINDS = {"value": ValueError, "import": ImportError, "os": OSError}
"""Errors that users can do something about, and are told in one line; others are faults."""


def _described(error: BaseException) -> tuple[str, str]:
    """Kind and message of an error, for the other processes."""
    if isinstance(error, Interrupted):
        return "interrupted", str(error)
    for kind, which in _KINDS.items():
        if isinstance(error, which):
            return kind, str(error)
    return "fault", f"{type(error).__name__}: {error}"


def mark(error: BaseException, known_to: Literal["all", "here"]) -> BaseException:
    """Note on an error of which all processes know what it says: all of it, or that it is a fault here."""
    error.known_to = known_to  # type: ignore[attr-defined]
    return error


def _known(error: BaseException) -> str | None:
    return getattr(error, "known_to", None)


def _is_lost(error: RuntimeError) -> bool:
    # Gloo, which works beside others, has no errors of its own kind.
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()

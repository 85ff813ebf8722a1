from dataclasses import dataclass, field
from typing import Literal

import pytest

from margipose.spec import InputSpec, closest, from_mapping, to_mapping


@dataclass(frozen=True)
class Outer:
    count: int = 1
    rate: float = 0.5
    mode: Literal["a", "b"] = "a"
    names: tuple[str, ...] = ()
    pair: tuple[int, int] = (1, 2)
    flag: bool | str = False
    limit: float | None = None
    extra: dict[str, str] = field(default_factory=dict)
    input: InputSpec = field(default_factory=InputSpec)


def test_round_trip_through_plain_values():
    outer = Outer(3, 1.0, "b", ("x", "y"), (4, 5), "text", 2.0, {"k": "v"}, InputSpec(64, 32))
    plain = to_mapping(outer)
    assert plain["names"] == ["x", "y"]
    assert plain["input"]["width"] == 64
    assert from_mapping(Outer, plain) == outer
    assert from_mapping(Outer, {}) == Outer()
    assert from_mapping(Outer, {"rate": 2}).rate == 2.0


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"cuont": 1}, "unknown key 'cuont'; did you mean 'count'"),
        ({"count": True}, "Outer.count: expected int, got bool"),
        ({"count": "true"}, "Outer.count: expected int, got str 'true'"),
        ({"count": 1.5}, "Outer.count: expected int, got float"),
        ({"rate": "fast"}, "Outer.rate: expected float"),
        ({"mode": "c"}, "'c' is not one of 'a', 'b'"),
        ({"names": "x"}, "Outer.names: expected"),
        ({"names": [1]}, r"Outer.names\[0\]: expected str"),
        ({"pair": [1]}, "Outer.pair: expected 2 values, got 1"),
        ({"flag": 3}, "Outer.flag"),
        ({"extra": 3}, "Outer.extra"),
        ({"input": {"widht": 3}}, "Outer.input: unknown key 'widht'; did you mean 'width'"),
        ({"input": {"width": 0}}, "size must be positive"),
        ({"input": 5}, "Outer.input: expected a mapping"),
        (5, "expected a mapping"),
    ],
)
def test_refuses_what_does_not_fit(mapping, message):
    with pytest.raises(ValueError, match=message):
        from_mapping(Outer, mapping)


def test_missing_key():
    @dataclass
    class Needs:
        a: int

    with pytest.raises(ValueError, match="key 'a' is missing"):
        from_mapping(Needs, {})


def test_closest():
    assert closest("h36n", ["h36m", "mpi3d"]) == "; did you mean 'h36m'?"
    assert closest("zzz", ["h36m", "mpi3d"]) == "; valid: h36m, mpi3d"

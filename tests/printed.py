"""What a command printed."""

import pytest


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Its error, which must be one line."""
    err = capsys.readouterr().err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err
    return err

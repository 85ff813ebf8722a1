"""A local web page to look through a data set, with or without a network: example by example, joint by joint.

    margipose view mpi3d data/mpi3d --split test --model model.safetensors

`Examples` knows what is shown, `make_app` (Dash, extra `view`) is the page, `serve` its server. The page can
ask for a row of the data set by its number, and for nothing else: no request reaches the file system in any
other way, and a server at the loopback address answers to this machine's own names only.
"""

from margipose.view.app import make_app
from margipose.view.examples import Example, Examples
from margipose.view.server import serve

__all__ = ["Example", "Examples", "make_app", "serve"]

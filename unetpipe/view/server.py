"""Serves Neuroglancer and the stores to a browser on this machine, to nobody who does not know the token."""

import json
import logging
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tornado.web import HTTPError, RequestHandler, StaticFileHandler

from unetpipe.view.neuroglancer import TYPES, state
from unetpipe.view.scene import Scene, find_scenes

logger = logging.getLogger(__name__)
HERE = "127.0.0.1"


@contextmanager
def serving(results: Path, samples: Sequence[str] = (), *, port: int = 0) -> Iterator[str]:
    """Serve while the context lasts, and give the address of a page that lists the scenes beside the viewer.

    Parameters
    ----------
    results : path
        Of a run.
    samples : sequence of str
        Those to be listed; all if none is given.
    port : int
        0 takes any that is free.

    Raises
    ------
    FileNotFoundError
        If there is no image, or no such sample.
    RuntimeError
        If Neuroglancer is not installed.
    OSError
        If the port is taken.
    """
    try:
        import neuroglancer  # noqa: PLC0415 - not everybody has it
    except ModuleNotFoundError as error:
        raise RuntimeError("Neuroglancer is not installed: pip install neuroglancer, or look with --napari") from error

    scenes, token = find_scenes(results, samples), secrets.token_urlsafe(16)
    for scene in (scene for scene in scenes if scene.dtype not in TYPES):
        what = f'sample "{scene.sample}", image {scene.name}: Neuroglancer cannot show pixels of type {scene.dtype}'
        logger.warning("%s, only what lies over them; look with --napari, or save the image as float32", what)
    logging.getLogger("tornado.access").setLevel(logging.ERROR)  # shards that hold nothing do not exist: 404
    neuroglancer.set_server_bind_address(HERE, port)
    try:
        viewer = neuroglancer.UnsynchronizedViewer(token=token)  # what it shows is in its address alone
    except OSError as error:
        raise OSError(f"port {port} of {HERE} cannot be had ({error.strerror}); take another") from error
    try:
        server = neuroglancer.server.global_server
        server.app.add_handlers(".*", _routes(results, scenes, viewer.token))
        yield f"{server.server_url}/{token}/"
    finally:
        neuroglancer.stop()


def _routes(results: Path, scenes: Sequence[Scene], token: str) -> list[tuple]:
    """The page, its list, the states of its scenes, and the stores."""
    given = {"scenes": scenes, "data": f"{token}/data"}
    return [
        (rf"/{token}/", Page),
        (rf"/{token}/scenes", List, given),
        (rf"/{token}/scenes/([0-9]+)", State, given),
        *(
            (rf"/{token}/data/{kind}/(.*)", Files, {"path": str(results.resolve() / kind)})
            for kind in ("images", "probabilities")
        ),
    ]


class Page(RequestHandler):
    """The list of scenes beside the viewer."""

    def get(self) -> None:
        """Answer with the page."""
        self.finish((Path(__file__).parent / "page.html").read_bytes())


class Scenes(RequestHandler):
    """Knows the scenes."""

    def initialize(self, scenes: Sequence[Scene], data: str) -> None:
        """Keep what the application gives."""
        self.scenes, self.data = scenes, data


class List(Scenes):
    """The names of the scenes."""

    def get(self) -> None:
        """Answer with [sample, series] of each."""
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps([[scene.sample, scene.name] for scene in self.scenes]))


class State(Scenes):
    """What Neuroglancer shows of one scene."""

    def get(self, number: str) -> None:
        """Answer with its state, for the address by which the browser came."""
        if int(number) >= len(self.scenes):
            raise HTTPError(404)
        self.finish(state(self.scenes[int(number)], f"{self.request.protocol}://{self.request.host}/{self.data}"))


class Files(StaticFileHandler):
    """Files as they are now, whole or in part."""

    def set_extra_headers(self, path: str) -> None:  # noqa: ARG002 - tornado gives it
        """Let the browser ask again whether a file has changed."""
        self.set_header("Cache-Control", "no-cache")

    def compute_etag(self) -> None:
        """None: it would take reading the whole of a shard; its time is enough."""

"""Headless Chromium over its DevTools protocol, for tests that look at a page."""

import asyncio
import base64
import json
import shutil
import subprocess
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from tornado.websocket import websocket_connect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MESSAGE = 2**28  # bytes: a screenshot of a long page
SECONDS = 60


@contextmanager
def opened(page: Path | str, folder: Path):
    """A `Tab` that shows a page, or an address, in a browser of its own with its files in a folder."""
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--remote-debugging-port=0", f"--user-data-dir={folder}"]
    command += ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-first-run", "about:blank"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            address = next(line.split()[-1] for line in process.stderr if "DevTools listening on" in line)
            with asyncio.Runner() as runner:
                tab = Tab(runner)
                tab.attach(address)
                tab.load(page.resolve().as_uri() if isinstance(page, Path) else page)
                yield tab
        finally:
            process.kill()


class Tab:
    """One page, which can be asked and looked at.

    Attributes
    ----------
    said : list of str
        What the console and uncaught errors said.
    """

    def __init__(self, runner: asyncio.Runner):
        self.runner, self.numbers, self.said = runner, count(1), []
        self.session: dict = {}

    def attach(self, address: str) -> None:
        """Take over the browser's first page."""
        self.socket = self.runner.run(self._connect(address))
        pages = self.ask("Target.getTargets")["targetInfos"]
        target = next(page["targetId"] for page in pages if page["type"] == "page")
        self.session = {"sessionId": self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Runtime", "Log", "Page"):
            self.ask(f"{domain}.enable")

    async def _connect(self, address: str):
        return await websocket_connect(address, max_message_size=MESSAGE)

    def ask(self, method: str, **parameters) -> dict:
        """Call a method of the protocol and wait for what it gives."""
        number = next(self.numbers)
        self.socket.write_message(json.dumps({"id": number, "method": method, "params": parameters, **self.session}))
        told = self._until(lambda told: told.get("id") == number)
        assert "result" in told, told
        return told["result"]

    def _until(self, wanted) -> dict:
        while True:
            told = json.loads(self.runner.run(asyncio.wait_for(self._read(), SECONDS)))
            if told.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"):
                self.said.append(json.dumps(told["params"]))
            if wanted(told):
                return told

    async def _read(self) -> str:
        return await self.socket.read_message()

    def load(self, address: str) -> None:
        """Show a page, and wait until it is there."""
        self.ask("Page.navigate", url=address)
        self._until(lambda told: told.get("method") == "Page.loadEventFired")

    def run(self, script: str):
        """The value of an expression in the page."""
        done = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, userGesture=True)
        if "exceptionDetails" in done:
            raise AssertionError(done["exceptionDetails"])
        return done["result"].get("value")

    def resize(self, width: int, height: int, theme: str = "light") -> None:
        """Show it as on a screen of this size, in pixels, that prefers light or dark."""
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])

    def picture(self, path: Path | None = None) -> bytes:
        """A PNG of the window."""
        content = base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"])
        if path:
            path.write_bytes(content)
        return content

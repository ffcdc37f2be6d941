"""Opens the page of `browser_app.js` in headless Chromium: `python browser.py ADDRESS`

Says `ready` once events come by both ways, `moved` once both come from another pod, and at the end of its input
`done` with what the page has noted down.
"""

import asyncio
import itertools
import json
import shutil
import sys
import tempfile

from websockets.asyncio.client import connect

# Events of each way and pod that are waited for.
SEEN = 20
LIMIT = 90.0
FLAGS = [
    "--headless",
    # It runs as root where this runs in a container, and opens nothing but the page of the test.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-port=0",
]
BANNER = "DevTools listening on "


async def main(address):
    directory = tempfile.mkdtemp(prefix="lameduck-browser-")
    browser = await asyncio.create_subprocess_exec(
        # Ends the browser also if this program is killed and can't.
        "timeout",
        str(LIMIT + 10),
        "chromium",
        *FLAGS,
        f"--user-data-dir={directory}",
        "about:blank",
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(LIMIT):
            await play(browser, f"http://{address}/")
    finally:
        if browser.returncode is None:
            browser.terminate()
        await browser.wait()
        shutil.rmtree(directory, ignore_errors=True)


async def play(browser, url):
    async for line in browser.stderr:
        if line.decode(errors="replace").startswith(BANNER):
            break
    # Nobody reads further: a full pipe would stop the browser.
    rest = asyncio.create_task(browser.stderr.read())
    async with connect(line.decode()[len(BANNER) :].strip(), max_size=None, proxy=None) as socket:
        page = Page(socket)
        await page.open(url)
        await page.wait_for_pods(1)
        say({"event": "ready"})
        await page.wait_for_pods(2)
        say({"event": "moved"})
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        say({"event": "done", **await page.story()})
    rest.cancel()


class Page:
    """A page that is steered by DevTools messages."""

    def __init__(self, socket):
        self.socket = socket
        self.numbers = itertools.count(1)
        self.session = {}

    async def open(self, url):
        target = await self.ask("Target.createTarget", url=url)
        attached = await self.ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self.session = {"sessionId": attached["sessionId"]}

    async def ask(self, method, **params):
        number = next(self.numbers)
        await self.socket.send(json.dumps({"id": number, "method": method, "params": params, **self.session}))
        async for message in self.socket:
            answer = json.loads(message)
            if answer.get("id") == number:
                return answer["result"]

    async def story(self):
        answer = await self.ask("Runtime.evaluate", expression="JSON.stringify(window.story ?? null)")
        return json.loads(answer["result"]["value"])

    async def wait_for_pods(self, count):
        """Waits until both ways have had events of so many pods, and some more of the last one."""
        seen = None
        while True:
            await asyncio.sleep(0.1)
            story = await self.story()
            if story is None:
                continue
            if min(len(story["eventPods"]), len(story["messagePods"])) < count:
                continue
            had = (len(story["events"]), len(story["messages"]))
            seen = seen or had
            if all(now >= then + SEEN for now, then in zip(had, seen)):
                return


def say(word):
    print(json.dumps(word), flush=True)


asyncio.run(main(sys.argv[1]))

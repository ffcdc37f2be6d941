"""Talks with an echo, with the websockets package: `python websockets_client.py ADDRESS`

First messages of all sizes and kinds on connections of their own, which it closes. Then says `ready` and keeps some
connections open, half of them quiet, half of them talking, until the other side closes them. Prints how they ended.
"""

import asyncio
import json
import os
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

SIZES = [0, 1, 125, 126, 1000, 65535, 65536, 1 << 20]
LARGEST = 2 << 20
OPEN = 16
LIMIT = 30.0
LONGEST_OPEN = 90.0

wrong = []
messages = 0


async def main(address):
    variants = [(path, way) for path in ("/", "/pieces") for way in (None, "deflate")]
    await asyncio.gather(*(say_all(address, path, way) for path, way in variants))
    kept = [
        asyncio.create_task(keep(address, *variants[number % len(variants)], number < OPEN / 2))
        for number in range(OPEN)
    ]
    async with asyncio.timeout(LIMIT):
        while len(opened) < OPEN:
            await asyncio.sleep(0.02)
    print(json.dumps({"event": "ready", "open": OPEN}), flush=True)
    ends = await asyncio.gather(*kept)
    print(json.dumps({"event": "done", "messages": messages, "ends": ends, "wrong": wrong}), flush=True)


def open_socket(address, path, way):
    return connect(f"ws://{address}{path}", compression=way, max_size=LARGEST, proxy=None)


async def say_all(address, path, way):
    async with asyncio.timeout(LIMIT), open_socket(address, path, way) as socket:
        names = [extension.name for extension in socket.protocol.extensions]
        if names != ([] if way is None else ["permessage-deflate"]):
            wrong.append(f"extensions of {path} {way}: {names}")
        # The server's first bytes may come right behind its 101, ours right behind them.
        for size in SIZES:
            await exchange(socket, os.urandom(size), size)
            await exchange(socket, "ä" * (size // 2), size)
        pieces = [os.urandom(700) for _ in range(300)]
        await exchange(socket, b"".join(pieces), "in pieces", pieces)
        await (await socket.ping(b"still there?"))
        # Many at once, one behind the other.
        burst = [b"%d" % number * 50 for number in range(500)]
        sender = asyncio.create_task(send_all(socket, burst))
        for message in burst:
            expect(await socket.recv(), message, "in a burst")
        await sender
        await socket.close(1000, "enough")
        if (socket.close_code, socket.close_reason) != (1000, "enough"):
            wrong.append(f"our close came back as {socket.close_code} {socket.close_reason}")


async def send_all(socket, burst):
    for message in burst:
        await socket.send(message)


async def exchange(socket, message, what, pieces=None):
    await socket.send(message if pieces is None else pieces)
    expect(await socket.recv(), message, what)


def expect(got, message, what):
    global messages
    messages += 1
    if got != message:
        wrong.append(f"a message ({what}) came back as {got[:50]!r}…")


opened = set()


async def keep(address, path, way, talks):
    async with asyncio.timeout(LONGEST_OPEN), open_socket(address, path, way) as socket:
        await exchange(socket, b"good day", "good day")
        opened.add(socket)
        is_clean = True
        try:
            while talks:
                await exchange(socket, os.urandom(5000), "talk")
                await asyncio.sleep(0.005)
            await socket.recv()
            wrong.append("a message that nobody asked for")
        except ConnectionClosed as end:
            # Both sides have sent a close frame.
            is_clean = end.rcvd is not None and end.sent is not None
        await socket.wait_closed()
        return {"code": socket.close_code, "reason": socket.close_reason, "clean": is_clean}


asyncio.run(main(sys.argv[1]))

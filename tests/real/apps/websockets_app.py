"""Echoes messages, with the websockets package: `python websockets_app.py PORT`

`/` sends each message back whole, `/pieces` in pieces of a thousand. permessage-deflate is used when the client asks
for it. Says of each connection how it has ended: one line of JSON.
"""

import asyncio
import json
import logging
import signal
import sys

from websockets.asyncio.server import serve

LARGEST = 2 << 20
PIECE = 1000


async def echo(socket):
    in_pieces = socket.request.path == "/pieces"
    try:
        async for message in socket:
            if in_pieces and message:
                message = [message[at : at + PIECE] for at in range(0, len(message), PIECE)]
            await socket.send(message)
    finally:
        await socket.wait_closed()
        end = {"event": "closed", "code": socket.close_code, "reason": socket.close_reason}
        print(json.dumps(end), flush=True)


async def main(port):
    # The probe connects and says nothing.
    logging.getLogger("websockets.server").setLevel(logging.CRITICAL)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with serve(echo, "127.0.0.1", port, max_size=LARGEST):
        await ended.wait()


asyncio.run(main(int(sys.argv[1])))

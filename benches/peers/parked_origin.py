"""An origin that answers nothing until it is told to: the app behind 4,000 long polls.

Prints `PORT CONTROL_PORT`. On the control port, `count` tells how many requests are parked,
`release` answers all of them.
"""

import asyncio

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
BACKLOG = 4096


class Poll(asyncio.Protocol):
    parked = set()

    def connection_made(self, transport):
        self.transport = transport
        self.received = b""

    def data_received(self, data):
        self.received += data
        if self.received.endswith(b"\r\n\r\n"):
            self.received = b""
            self.parked.add(self)

    def connection_lost(self, _error):
        self.parked.discard(self)

    @classmethod
    def release(cls):
        for poll in cls.parked:
            poll.transport.write(ANSWER)
        cls.parked.clear()


class Control(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        if data == b"release\n":
            Poll.release()
        self.transport.write(b"%d" % len(Poll.parked))
        self.transport.close()


async def main():
    loop = asyncio.get_running_loop()
    polls = await loop.create_server(Poll, "127.0.0.1", 0, backlog=BACKLOG)
    control = await loop.create_server(Control, "127.0.0.1", 0)
    ports = (server.sockets[0].getsockname()[1] for server in (polls, control))
    print(*ports, flush=True)
    await polls.serve_forever()


asyncio.run(main())

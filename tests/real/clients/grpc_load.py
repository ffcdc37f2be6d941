"""A steady load of unary calls and some open streams, with grpcio's own client.

`python grpc_load.py ADDRESS CALLS_PER_SECOND CHANNELS STREAMS_PER_CHANNEL`

Every channel has a connection of its own. Calls are made at their pace whether or not answers come. No call is made
again by this program; grpcio itself sends a call again that surely has not reached the app, as every gRPC client does.
A stream that ends is noted down and opened again. Says `ready` on standard output, runs until standard input ends, and
prints what came of it all.
"""

import asyncio
import json
import sys
import time

import grpc

PACE = 0.005
# No unary call takes this long unless it is lost.
LIMIT = 30.0
LONGEST_LOAD = 120.0
# At this many calls without an answer the load pauses.
MAX_IN_FLIGHT = 1024


class Load:
    def __init__(self, address, rate, channels, streams):
        # grpcio would share one connection between channels with the same arguments.
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 100),
        ]
        self.rate = rate
        self.streams_per_channel = streams
        self.channels = [grpc.aio.insecure_channel(address, options) for _ in range(channels)]
        self.echoes = [channel.unary_unary("/story.Story/Echo") for channel in self.channels]
        self.sent = self.answered = 0
        self.failures = []
        self.ends = []
        self.slowest = 0.0
        self.is_over = False

    async def run(self):
        await asyncio.gather(*(channel.channel_ready() for channel in self.channels))
        streams = [
            asyncio.create_task(self.keep_open(channel))
            for channel in self.channels
            for _ in range(self.streams_per_channel)
        ]
        print(json.dumps({"event": "ready"}), flush=True)
        took = await self.send()
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
        for channel in self.channels:
            await channel.close()
        report = {
            "event": "done",
            "sent": self.sent,
            "answered": self.answered,
            "rate": round(self.answered / took),
            "slowest_ms": round(self.slowest * 1000),
            "failed": len(self.failures),
            "failures": self.failures[:10],
            "stream_ends": self.ends,
        }
        print(json.dumps(report), flush=True)

    async def send(self):
        loop = asyncio.get_running_loop()
        stopped = loop.run_in_executor(None, sys.stdin.read)
        calls = set()
        start = time.monotonic()
        while not stopped.done() and time.monotonic() - start < LONGEST_LOAD:
            # A late turn is made up for: the rate is kept over the run.
            due = int((time.monotonic() - start) * self.rate)
            while self.sent < due and len(calls) < MAX_IN_FLIGHT:
                call = asyncio.create_task(self.call(self.sent))
                self.sent += 1
                calls.add(call)
                call.add_done_callback(calls.discard)
            await asyncio.sleep(PACE)
        took = time.monotonic() - start
        await asyncio.gather(*calls)
        return took

    async def call(self, number):
        message = b"good day %d" % number
        start = time.monotonic()
        try:
            answer = await self.echoes[number % len(self.echoes)](message, timeout=LIMIT)
        except grpc.RpcError as error:
            self.failures.append([error.code().value[0], error.details(), error.debug_error_string()])
            return
        self.slowest = max(self.slowest, time.monotonic() - start)
        if answer == message:
            self.answered += 1
        else:
            self.failures.append([None, "another call's answer", ""])

    async def keep_open(self, channel):
        hold = channel.unary_stream("/story.Story/Hold")
        while True:
            messages = 0
            try:
                async for _ in hold(b"", wait_for_ready=True):
                    messages += 1
                self.ends.append({"code": 0, "message": "", "messages": messages})
            except grpc.RpcError as error:
                self.ends.append({"code": error.code().value[0], "message": error.details(), "messages": messages})


async def main(address, *numbers):
    # In here: channels belong to the loop that runs when they are made.
    await Load(address, *map(int, numbers)).run()


asyncio.run(main(*sys.argv[1:]))

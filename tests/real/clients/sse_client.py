"""Listens to event streams with httpx-sse: `python sse_client.py PROXY APP`

First a stream whose every event has to be acknowledged. Then how long events take with the proxy and without it, by
turns. Then says `ready` and keeps streams open, half of them quiet, until the other side ends them.
"""

import asyncio
import json
import statistics
import sys
import time

import httpx
from httpx_sse import aconnect_sse

OPEN = 10
TURNS = 10
EVENTS_PER_TURN = 30
LIMIT = 90.0


async def main(proxy, app):
    limits = httpx.Limits(max_connections=OPEN * 2)
    async with asyncio.timeout(LIMIT), httpx.AsyncClient(timeout=LIMIT, limits=limits, trust_env=False) as client:
        steps = await step(client, f"http://{proxy}")
        took = {proxy: [], app: []}
        for _ in range(TURNS):
            for peer, times in took.items():
                times += await measure(client, f"http://{peer}")
        opened = asyncio.Semaphore(0)
        paths = ["/quiet", "/ticks"]
        kept = [
            asyncio.create_task(keep(client, f"http://{proxy}{paths[number % 2]}", opened)) for number in range(OPEN)
        ]
        for _ in kept:
            await opened.acquire()
        say({"event": "ready", "open": OPEN})
        ends = await asyncio.gather(*kept)
    medians = [statistics.median(took[peer]) for peer in (proxy, app)]
    say({"event": "done", "steps": steps, "proxied_us": medians[0], "direct_us": medians[1], "ends": ends})


async def step(client, base):
    heard = []
    async with aconnect_sse(client, "GET", f"{base}/steps/one") as source:
        async for event in source.aiter_sse():
            heard.append(event.data)
            (await client.post(f"{base}/ack/one")).raise_for_status()
    return heard == [f"step {number}" for number in range(100)]


async def measure(client, base):
    """Microseconds from the app to here; the first ones belong to the connection."""
    times = []
    async with aconnect_sse(client, "GET", f"{base}/ticks") as source:
        async for event in source.aiter_sse():
            times.append((time.monotonic_ns() - int(event.data)) / 1000)
            if len(times) == EVENTS_PER_TURN:
                return times[5:]


async def keep(client, url, opened):
    numbers = []
    events = retry = 0
    problem = None
    try:
        async with aconnect_sse(client, "GET", url) as source:
            async for event in source.aiter_sse():
                if event.retry is not None:
                    retry = event.retry
                if not event.data:
                    continue
                events += 1
                if events == 1:
                    opened.release()
                if event.id:
                    int(event.data)
                    numbers.append(int(event.id))
    # Its message says whether the stream was cut.
    except Exception as error:
        problem = repr(error)
    is_whole = numbers == list(range(len(numbers)))
    return {"url": url, "events": events, "whole": is_whole, "retry": retry, "problem": problem}


def say(word):
    print(json.dumps(word), flush=True)


asyncio.run(main(*sys.argv[1:]))

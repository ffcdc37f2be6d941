"""Event streams with starlette: `uvicorn sse_app:app`

`/ready/`        the readiness probe
`/steps/{name}`  a hundred events; each is sent only when the one before has been acknowledged, so one that
                 is held back anywhere stops the stream
`/ack/{name}`    POST: the client has the last event of that stream
`/ticks`         an event each 5 ms, with the time at which it was sent (the machine's monotonic clock, in ns)
`/quiet`         one event, then none
"""

import asyncio
import collections
import time

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

STEPS = 100
LIMIT = 20.0
LONGEST = 60.0
PACE = 0.005

acknowledged = collections.defaultdict(asyncio.Event)


def stream(events):
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


async def ready(request):
    return PlainTextResponse("ready")


async def steps(request):
    event = acknowledged[request.path_params["name"]]

    async def events():
        for number in range(STEPS):
            event.clear()
            yield f"id: {number}\ndata: step {number}\n\n"
            await asyncio.wait_for(event.wait(), LIMIT)

    return stream(events())


async def acknowledge(request):
    acknowledged[request.path_params["name"]].set()
    return PlainTextResponse("good")


async def ticks(request):
    async def events():
        end = time.monotonic() + LONGEST
        number = 0
        while time.monotonic() < end:
            # In two parts: a boundary finder that took any chunk for an event would cut here.
            yield f"id: {number}\n"
            yield f"data: {time.monotonic_ns()}\n\n"
            number += 1
            await asyncio.sleep(PACE)

    return stream(events())


async def quiet(request):
    async def events():
        yield "data: hush\n\n"
        await asyncio.sleep(LONGEST)

    return stream(events())


app = Starlette(
    routes=[
        Route("/ready/", ready),
        Route("/steps/{name}", steps),
        Route("/ack/{name}", acknowledge, methods=["POST"]),
        Route("/ticks", ticks),
        Route("/quiet", quiet),
    ]
)

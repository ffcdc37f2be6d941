"""A gRPC service on grpcio's own asyncio server, with the standard health service: `python grpc_app.py PORT`

`/story.Story/` has a method of each kind; messages are bare bytes, so nothing has to be generated:
`Echo`   unary: the request again; metadata that begins with `story-` come back as initial and as trailing metadata
`Fail`   unary: ends with the code and message that the request (JSON) asks for, before any message: trailers only
`Late`   a stream that ends so after its first message
`Sleep`  unary: answers after the seconds that the request names
`Count`  server streaming: as many messages as the request says
`Sum`    client streaming: how many messages, how many bytes
`Chat`   bidirectional: each message again
`Hold`   server streaming: one message at once, then none, until somebody ends it
`Tell`   unary: how many calls were cancelled before they had ended, as JSON

SIGUSR1 turns the health of `story.Story` over.
"""

import asyncio
import json
import signal
import sys

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

SERVICE = "story.Story"
LONGEST = 60.0
# Above the largest message of the tests, which is as large as grpcio's own limit.
LIMITS = [("grpc.max_receive_message_length", 8 << 20), ("grpc.so_reuseport", 0)]

told = {"cancelled": 0}


async def echo(request, context):
    mine = tuple((k, v) for k, v in context.invocation_metadata() if k.startswith("story-"))
    if mine:
        await context.send_initial_metadata(mine)
        context.set_trailing_metadata(mine)
    return request


async def fail(request, context):
    wanted = json.loads(request)
    await context.abort(code_of(wanted["code"]), wanted["message"], (("story-fail", "trailing"),))


async def late(request, context):
    yield b"first"
    wanted = json.loads(request)
    await context.abort(code_of(wanted["code"]), wanted["message"], (("story-fail", "trailing"),))


async def sleep(request, context):
    with counted():
        await asyncio.sleep(min(float(request), LONGEST))
    return b"slept"


async def count(request, context):
    for number in range(int(request)):
        yield str(number).encode()


async def sum_up(requests, context):
    messages = size = 0
    async for request in requests:
        messages += 1
        size += len(request)
    return f"{messages} {size}".encode()


async def chat(requests, context):
    async for request in requests:
        yield request


async def hold(request, context):
    yield b"held"
    with counted():
        await asyncio.sleep(LONGEST)


async def tell(request, context):
    return json.dumps(told).encode()


class counted:
    """Counts a call that was cancelled under its handler."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is asyncio.CancelledError:
            told["cancelled"] += 1


def code_of(number):
    return next(code for code in grpc.StatusCode if code.value[0] == number)


def service():
    unary, to_many = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "Echo": unary(echo),
            "Fail": unary(fail),
            "Late": to_many(late),
            "Sleep": unary(sleep),
            "Count": to_many(count),
            "Sum": grpc.stream_unary_rpc_method_handler(sum_up),
            "Chat": grpc.stream_stream_rpc_method_handler(chat),
            "Hold": to_many(hold),
            "Tell": unary(tell),
        },
    )


async def main(port):
    server = grpc.aio.server(options=LIMITS)
    healths = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healths, server)
    server.add_generic_rpc_handlers((service(),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    states = health_pb2.HealthCheckResponse
    serving = True

    async def turn_over():
        nonlocal serving
        serving = not serving
        await healths.set(SERVICE, states.SERVING if serving else states.NOT_SERVING)

    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, lambda: loop.create_task(turn_over()))
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await healths.set(SERVICE, states.SERVING)
    await server.start()
    await ended.wait()
    await server.stop(0)


asyncio.run(main(int(sys.argv[1])))

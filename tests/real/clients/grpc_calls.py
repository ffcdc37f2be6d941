"""Calls every kind of method with grpcio's own client: `python grpc_calls.py ADDRESS [CERTIFICATE]`

Prints one JSON object: what came of each call. With a certificate (PEM) that signs for `localhost`, over TLS.
"""

import json
import sys
import threading
import time

import grpc

LIMIT = 20.0
# grpcio takes no larger message if nothing else is said: 4 MiB with its framing.
LARGE = 4 << 20
MANY = 1000


def main(address, certificate=None):
    options = [("grpc.max_receive_message_length", LARGE)]
    if certificate is None:
        channel = grpc.insecure_channel(address, options)
    else:
        with open(certificate, "rb") as file:
            credentials = grpc.ssl_channel_credentials(file.read())
        options.append(("grpc.ssl_target_name_override", "localhost"))
        channel = grpc.secure_channel(address, credentials, options)
    with channel:
        print(json.dumps({name: call(channel) for name, call in CALLS.items()}))


def unary(channel, name, request, **more):
    return channel.unary_unary(f"/story.Story/{name}").with_call(request, timeout=LIMIT, **more)


def echo(channel):
    answer, _ = unary(channel, "Echo", b"good day")
    return answer.decode()


def empty(channel):
    answer, _ = unary(channel, "Echo", b"")
    return len(answer)


def large(channel):
    message = bytes(range(256)) * (LARGE // 256)
    answer, _ = unary(channel, "Echo", message)
    return [len(answer), answer == message]


def too_large(channel):
    return failed(lambda: unary(channel, "Echo", b"x" * (LARGE + 1)))[0]


def metadata(channel):
    sent = (("story-text", "a, b"), ("story-text", "c"), ("story-bytes-bin", bytes(range(256))))
    _, call = unary(channel, "Echo", b"", metadata=sent)
    mine = lambda got: [[k, v if isinstance(v, str) else v.hex()] for k, v in got if k.startswith("story-")]
    return [mine(call.initial_metadata()), mine(call.trailing_metadata())]


def counted(channel):
    stream = channel.unary_stream("/story.Story/Count")(str(MANY).encode(), timeout=LIMIT)
    return [int(message) for message in stream] == list(range(MANY))


def summed(channel):
    messages = (b"m" * 1000 for _ in range(MANY))
    return channel.stream_unary("/story.Story/Sum")(messages, timeout=LIMIT).decode()


def chatted(channel):
    """In turns: each message is sent only when the one before it has come back."""
    turn = threading.Semaphore(1)

    def messages():
        for number in range(100):
            assert turn.acquire(timeout=LIMIT)
            yield b"%d" % number * 100

    heard = 0
    for message in channel.stream_stream("/story.Story/Chat")(messages(), timeout=LIMIT):
        assert message == b"%d" % heard * 100
        heard += 1
        turn.release()
    return heard


def chatted_large(channel):
    messages = [bytes([number]) * (1 << 20) for number in range(8)]
    stream = channel.stream_stream("/story.Story/Chat")(iter(messages), timeout=LIMIT)
    return list(stream) == messages


def failures(channel):
    """Statuses that come without any message, and one after the first message."""
    ends = []
    for code, message in ((5, "no such duck"), (3, "100 % wrong: äöü\n"), (13, ""), (14, "not now"), (16, "who?")):
        request = json.dumps({"code": code, "message": message}).encode()
        ends.append(failed(lambda: unary(channel, "Fail", request)))
    request = json.dumps({"code": 9, "message": "second thoughts"}).encode()
    stream = channel.unary_stream("/story.Story/Late")(request, timeout=LIMIT)
    ends.append([next(stream).decode(), failed(lambda: next(stream))])
    ends.append(failed(lambda: unary(channel, "None", b"")))
    return ends


def deadlines(channel):
    before = cancelled(channel)
    ends = [
        failed(lambda: channel.unary_unary("/story.Story/Sleep")(b"30", timeout=0.3)),
        failed(lambda: list(channel.unary_stream("/story.Story/Hold")(b"", timeout=0.3))),
    ]
    return [[end[0] for end in ends], wait_for_cancelled(channel, before + 2)]


def cancellations(channel):
    before = cancelled(channel)
    sleeping = channel.unary_unary("/story.Story/Sleep").future(b"30", timeout=LIMIT)
    stream = channel.unary_stream("/story.Story/Hold")(b"", timeout=LIMIT)
    first = next(stream).decode()
    # Most likely the app has the sleeping call by now, too: they are on one connection.
    unary(channel, "Echo", b"")
    sleeping.cancel()
    stream.cancel()
    ends = [failed(lambda: next(stream)), [sleeping.code().value[0], None]]
    return [first, [end[0] for end in ends], wait_for_cancelled(channel, before + 2)]


def cancelled(channel):
    answer, _ = unary(channel, "Tell", b"")
    return json.loads(answer)["cancelled"]


def wait_for_cancelled(channel, count):
    """Whether the app has heard of `count` cancelled calls before the limit."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        if cancelled(channel) == count:
            return True
        time.sleep(0.05)
    return False


def failed(call):
    """The code, message and trailing metadata of our own that a call ends with."""
    try:
        return ["no failure", repr(call())]
    except grpc.RpcError as error:
        mine = [[k, v] for k, v in error.trailing_metadata() or () if k.startswith("story-")]
        return [error.code().value[0], error.details(), *mine]


CALLS = {
    "echo": echo,
    "empty": empty,
    "large": large,
    "too_large": too_large,
    "metadata": metadata,
    "counted": counted,
    "summed": summed,
    "chatted": chatted,
    "chatted_large": chatted_large,
    "failures": failures,
    "deadlines": deadlines,
    "cancellations": cancellations,
}

main(*sys.argv[1:])

"""The app of the story, as a plain ASGI app without a framework: `uvicorn asgi_app:app`.

Same paths as in `flask_app.py`.
"""

import asyncio
from urllib.parse import parse_qs

ready = True


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    status, text = await answer(scope["path"], parse_qs(scope["query_string"].decode()))
    body = text.encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def answer(path, query):
    global ready
    number = query.get("n", [""])[0]
    if path == "/":
        return 200, f"good day {number}"
    if path == "/ready/":
        return (200, "ready") if ready else (503, "not ready")
    if path == "/unready/":
        ready = not ready
        return 200, "ready from now on" if ready else "not ready from now on"
    if path == "/poll":
        await asyncio.sleep(min(float(query.get("s", ["1"])[0]), 60.0))
        return 200, f"polled {number}"
    return 404, "no such page"


async def lifespan(receive, send):
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return

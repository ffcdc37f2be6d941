"""The app of the story, as a Flask app: it can turn unready while it stays alive, and it holds long polls.

`/`          a short answer that asks for keep-alive, as the story's server did (`?n=` is echoed)
`/ready/`    the readiness probe: 200 or 503
`/unready/`  turns readiness over
`/poll?s=N`  a long poll: answers after N seconds

Under gunicorn: `gunicorn flask_app:app`. Under Flask's own server: `flask --app flask_app run`.
Readiness is a variable of the process, so it wants one worker process.
"""

import threading
import time

from flask import Flask, Response, request

app = Flask("story")
ready = threading.Event()
ready.set()


@app.get("/")
def greet():
    response = Response(f"good day {request.args.get('n', '')}")
    response.headers["Connection"] = "Keep-Alive"
    response.headers["Keep-Alive"] = "timeout=30"
    return response


@app.get("/ready/")
def readiness():
    return Response("ready") if ready.is_set() else Response("not ready", status=503)


@app.get("/unready/")
def turn_readiness_over():
    if ready.is_set():
        ready.clear()
        return "not ready from now on"
    ready.set()
    return "ready from now on"


@app.get("/poll")
def poll():
    seconds = min(float(request.args.get("s", "1")), 60.0)
    time.sleep(seconds)
    return f"polled {request.args.get('n', '')}"

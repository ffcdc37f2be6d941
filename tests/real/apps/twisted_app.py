"""The app of the story on Twisted's HTTP server, the server that the story's long polls ran on.

Same paths as in `flask_app.py`. `python twisted_app.py PORT`
"""

import sys

from twisted.internet import reactor
from twisted.web.resource import NoResource, Resource
from twisted.web.server import NOT_DONE_YET, Site

ready = True


class Story(Resource):
    isLeaf = True

    def render_GET(self, request):
        global ready
        number = argument(request, b"n", b"")
        if request.path == b"/":
            return b"good day " + number
        if request.path == b"/ready/":
            if not ready:
                request.setResponseCode(503)
            return b"ready" if ready else b"not ready"
        if request.path == b"/unready/":
            ready = not ready
            return b"ready from now on" if ready else b"not ready from now on"
        if request.path == b"/poll":
            park(request, min(float(argument(request, b"s", b"1")), 60.0), b"polled " + number)
            return NOT_DONE_YET
        return NoResource().render(request)


def argument(request, name, default):
    return request.args.get(name, [default])[0]


def park(request, seconds, answer):
    def finish():
        request.write(answer)
        request.finish()

    timer = reactor.callLater(seconds, finish)
    # The client may leave before the answer is due.
    request.notifyFinish().addErrback(lambda _: timer.active() and timer.cancel())


reactor.listenTCP(int(sys.argv[1]), Site(Story()), backlog=1024, interface="127.0.0.1")
reactor.run()

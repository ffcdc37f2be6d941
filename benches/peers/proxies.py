"""The proxies under comparison and the origin: their settings, each with one worker thread."""

import os
import shutil
import socket
import time

from processes import CannotMeasure, check_alive, free_port

BODY = "lameduck: 25 bytes, exact"
LARGE_BODY_BYTES = 1024 * 1024

# nginx preallocates its connections; 16,384 hold 4,000 polls (two each) and is a usual setting.
NGINX_BASE = """\
{user}
daemon off;
worker_processes 1;
pid {directory}/{name}.pid;
error_log stderr error;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  client_body_temp_path {directory}/{name}-body;
  proxy_temp_path {directory}/{name}-proxy;
  fastcgi_temp_path {directory}/{name}-fastcgi;
  uwsgi_temp_path {directory}/{name}-uwsgi;
  scgi_temp_path {directory}/{name}-scgi;
  # Nobody closes a connection in the middle of a round.
  keepalive_requests 100000000;
  {http}
}}
"""

ORIGIN_HTTP = """\
  default_type text/plain;
  sendfile on;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ return 200 "{body}"; }}
    location = /large {{ root {directory}; }}
  }}
"""

# A body is never written to disk, which would be measured as nginx's own cost.
NGINX_HTTP = """\
  proxy_max_temp_file_size 0;
  upstream origin {{
    server {origin};
    keepalive 256;
    keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }}
  }}
"""

HAPROXY = """\
global
  nbthread 1
  maxconn 9000
defaults
  mode http
  option forwardfor
  http-reuse always
  timeout connect 5s
  timeout client 120s
  timeout server 120s
frontend front
  bind 127.0.0.1:{port} backlog 4096
  default_backend app
backend app
  server origin {origin}
"""

ENVOY = """\
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          stream_idle_timeout: 0s
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{match: {{prefix: "/"}}, route: {{cluster: app, timeout: 0s}}}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: app
    type: STATIC
    connect_timeout: 5s
    circuit_breakers:
      thresholds: [{{max_connections: 20000, max_pending_requests: 20000, max_requests: 20000}}]
    load_assignment:
      cluster_name: app
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: {host}, port_value: {origin_port}}}}}}}
"""

# The first three are always there; the others are asked for with --peers.
ALWAYS = ("nginx", "relay", "lameduck")
ON_REQUEST = ("haproxy", "envoy")


class Proxies:
    """Starts any of the proxies in front of any origin."""

    def __init__(self, processes, binaries, cpus):
        self.processes = processes
        self.binaries = binaries
        self.cpus = cpus
        self._commands = {
            "nginx": self._nginx,
            "relay": self._relay,
            "lameduck": self._lameduck,
            "haproxy": self._haproxy,
            "envoy": self._envoy,
        }

    def start(self, name, origin_port):
        """A fresh process, serving; it has answered one request or more."""
        port, process = self._launch(name, origin_port)
        wait_until_serving(process, port)
        return port, process

    def start_untouched(self, name, origin_port):
        """A fresh process that listens and was sent nothing: for the memory at rest."""
        port, process = self._launch(name, origin_port)
        wait_until_listening(process, port)
        return port, process

    def _launch(self, name, origin_port):
        port = free_port()
        command, env = self._commands[name](port, f"127.0.0.1:{origin_port}")
        return port, self.processes.start(name, command, self.cpus, env)

    def _nginx(self, port, origin):
        http = NGINX_HTTP.format(port=port, origin=origin)
        return nginx_command(self.binaries["nginx"], self.processes.directory, f"nginx-{port}", http), None

    def _relay(self, port, origin):
        return [self.binaries["relay"], f"127.0.0.1:{port}", origin], None

    def _lameduck(self, port, origin):
        # The default configuration, except what says where and how many workers.
        env = {k: v for k, v in os.environ.items() if not k.startswith("LAMEDUCK_")}
        env["LAMEDUCK_WORKERS"] = "1"
        env["LAMEDUCK_ROUTES"] = f"127.0.0.1:{port}={origin}"
        env["LAMEDUCK_ADMIN_ADDR"] = f"127.0.0.1:{free_port()}"
        return [self.binaries["lameduck"], "proxy"], env

    def _haproxy(self, port, origin):
        path = self._write(f"haproxy-{port}.cfg", HAPROXY.format(port=port, origin=origin))
        return [self.binaries["haproxy"], "-db", "-f", path], None

    def _envoy(self, port, origin):
        host, _, origin_port = origin.partition(":")
        text = ENVOY.format(port=port, host=host, origin_port=origin_port)
        path = self._write(f"envoy-{port}.yaml", text)
        return [self.binaries["envoy"], "--concurrency", "1", "--log-level", "error",
                "--disable-hot-restart", "-c", path], None

    def _write(self, name, text):
        return write(os.path.join(self.processes.directory, name), text)


def start_origin(processes, binary, cpus):
    """nginx answering by itself: 25 bytes everywhere, 1 MiB at /large."""
    port = free_port()
    directory = processes.directory
    # Its worker may run as another user.
    os.chmod(directory, 0o755)
    with open(os.path.join(directory, "large"), "wb") as large:
        large.write(b"x" * LARGE_BODY_BYTES)
    http = ORIGIN_HTTP.format(port=port, body=BODY, directory=directory)
    command = nginx_command(binary, directory, "origin", http)
    process = processes.start("origin", command, cpus)
    wait_until_serving(process, port)
    return port, process


def nginx_command(binary, directory, name, http):
    # As root, nginx would hand its temporary directories to a user that may not exist.
    user = "user root;" if os.geteuid() == 0 else ""
    text = NGINX_BASE.format(user=user, directory=directory, name=name, http=http)
    return [binary, "-p", directory, "-e", "stderr", "-c", write(os.path.join(directory, f"{name}.conf"), text)]


def wait_until_listening(process, port, seconds=15):
    def listening():
        # /proc instead of a connection: even one would be a trace in the memory at rest.
        with open("/proc/net/tcp") as sockets:
            return any(line.split()[1:4:2] == [f"0100007F:{port:04X}", "0A"] for line in sockets)

    _wait(process, listening, seconds, f"{process.name} does not listen on port {port}")


def wait_until_serving(process, port, seconds=15):
    """The right answer, on a connection that stays: lameduck closes them while it starts."""
    def serving():
        try:
            head, body = fetch(port)
        except OSError:
            return False
        return body == BODY and "connection: close" not in head.lower()

    _wait(process, serving, seconds, f"{process.name} does not answer as it should")


def fetch(port, path="/"):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        answer = b""
        while not answer.endswith(BODY.encode()):
            piece = client.recv(65536)
            if not piece:
                break
            answer += piece
    head, _, body = answer.decode("latin-1").partition("\r\n\r\n")
    return head, body


def find(name):
    # Debian keeps daemons in /usr/sbin, which is not on everybody's path.
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def write(path, text):
    with open(path, "w") as file:
        file.write(text)
    return path


def _wait(process, condition, seconds, otherwise):
    deadline = time.monotonic() + seconds
    while not condition():
        check_alive(process)
        if time.monotonic() > deadline:
            raise CannotMeasure(f"{otherwise} after {seconds} s")
        time.sleep(0.05)

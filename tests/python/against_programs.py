#!/usr/bin/env python3
"""Runs loop.py, and with --node the client in Node, against the built programs: starts a sandbox and an all-in-one
gateway, each on ports of the system's choosing, runs the clients, stops both by SIGTERM, and checks that they end well
and in time.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

# How long a program may take to be ready, and to stop when it is idle, in seconds.
READY = 20
STOP = 5


def start(name, command, ready, log):
    """Starts a program and waits for its ready file; gives the process and what the file holds."""
    if not command[0].is_file():
        raise SystemExit(f"{command[0]} is not there: run cargo build --workspace --bins first")
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    end = time.monotonic() + READY
    while time.monotonic() < end and process.poll() is None:
        try:
            return process, json.loads(ready.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            time.sleep(0.05)
    process.kill()
    raise SystemExit(f"{name} was not ready within {READY} s; its log:\n{log.read_text()}")


def stop(name, process, log):
    """Stops a program and says what was wrong with how it ended, if anything."""
    if process.poll() is not None:
        return f"{name} ended by itself with {process.returncode}; its log:\n{log.read_text()}"
    process.terminate()
    try:
        code = process.wait(STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return f"{name} did not stop within {STOP} s of SIGTERM"
    return None if code == 0 else f"{name} ended with {code}; its log:\n{log.read_text()}"


def main():
    """Gives the exit code."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--programs", required=True, type=pathlib.Path, help="the folder of the built programs")
    arguments.add_argument("--node", action="store_true", help="run the client in Node too (packages on NODE_PATH)")
    given = arguments.parse_args()
    wrong = []
    with tempfile.TemporaryDirectory(prefix="postern-loop-") as made:
        folder = pathlib.Path(made)
        started = []
        try:
            world, address = folder / "world.json", folder / "gateway.json"
            command = [given.programs / "postern-sandbox", "serve", "--ready-file", world]
            command += ["--listen-smtp", "127.0.0.1:0", "--listen-graph", "127.0.0.1:0"]
            process, _ = start("postern-sandbox", command, world, folder / "sandbox.log")
            started.append(("postern-sandbox", process, folder / "sandbox.log"))
            command = [given.programs / "gateway", "--listen", "127.0.0.1:0", "--ready-file", address]
            command += ["--data-dir", folder / "data"]
            process, ready = start("gateway", command, address, folder / "gateway.log")
            started.append(("gateway", process, folder / "gateway.log"))
            here = pathlib.Path(__file__).parent
            loops = [[sys.executable, here / "loop.py", "--gateway", ready["address"], "--world", world]]
            if given.node:
                loops.append(["node", here.parent / "node" / "client.js", ready["address"], world])
            for loop in loops:
                if subprocess.run(loop, check=False).returncode != 0:
                    log = (folder / "gateway.log").read_text()
                    wrong.append(f"{loop[1].name} failed; the gateway's log:\n{log}")
            secrets = json.loads(world.read_text())
            for secret in (secrets["smtp"]["password"], secrets["graph"]["client_secret"]):
                if secret in (folder / "gateway.log").read_text():
                    wrong.append("the gateway's log holds a secret")
        finally:
            wrong += [said for said in (stop(*program) for program in reversed(started)) if said]
    for said in wrong:
        print(said, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

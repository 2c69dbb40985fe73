#!/usr/bin/env python3
"""Judges all recorded Graph traffic of the end-to-end tests, and counts what of Graph's description it exercised.

usage: graph_report.py JUDGE DESCRIPTION FOLDER      exit 1 if there is a violation, or nothing to judge

JUDGE: the script that tests/run names in POSTERN_GRAPH_JUDGE; its class Judge is used. FOLDER: files of one exchange a
line. Where an answer was a fault on demand only the request is judged. Requests without a client-request-id are the
tests' own, some of them wrong on purpose, and left out.
"""

import collections
import importlib.util
import json
import pathlib
import re
import sys
import urllib.parse


def judge_of(script, description):
    spec = importlib.util.spec_from_file_location("graph_judge", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Judge(description)


def exchanges(folder):
    for file in sorted(pathlib.Path(folder).glob("*.jsonl")):
        for line in file.read_text().splitlines():
            # The one liberty that the small Graph takes: it pushes to this machine without TLS.
            yield json.loads(re.sub(r"http://(127\.0\.0\.1:\d+/postern/)", r"https://\1", line))


def without_links(value):
    """An answer without where attached links lead: some clouds tell it, though v1.0 does not describe it."""
    if isinstance(value, dict):
        return {name: without_links(part) for name, part in value.items() if name != "sourceUrl"}
    return [without_links(part) for part in value] if isinstance(value, list) else value


def is_ours(exchange):
    return any(name.lower() == "client-request-id" for name, _ in exchange["request_headers"])


def operation(judge, method, url):
    """The operation of a request: its method, and its path in the description."""
    path = re.sub(r"^/(v1\.0|beta)(?=/)", "", "/" + urllib.parse.urlsplit(url).path.lstrip("/"))
    path = urllib.parse.unquote(path.replace("%2F", "\x01").replace("%2f", "\x01")).rstrip("/")
    found, operations = judge.match(path)
    return (method.upper(), found) if found and method.lower() in operations else None


def of_any_mailbox(one):
    """An operation whichever way its mailbox is named."""
    return (one[0], re.sub(r"^/(me|users/\{[^}]+\})(?=/|$)", "/{mailbox}", one[1]))


def main():
    script, description, folder = sys.argv[1:]
    judge = judge_of(script, description)
    described = {
        (method.upper(), path)
        for path, item in judge.d["paths"].items()
        for method in item
        if method != "parameters"
    }
    used, statuses, judged, violations = collections.Counter(), set(), 0, 0
    for exchange in exchanges(folder):
        if not is_ours(exchange):
            continue
        judged += 1
        one = operation(judge, exchange["method"], exchange["url"])
        if one:
            used[one] += 1
        if exchange.pop("on_demand"):
            exchange.pop("status")
        else:
            statuses.add(exchange["status"])
        exchange["response_body"] = without_links(exchange["response_body"])
        wrong = judge.check(exchange)
        violations += bool(wrong)
        for where, path, problem in wrong:
            print(f"{exchange['method']} {exchange['url'][:120]} | {where} {path}: {problem}")
    for (method, path), times in sorted(used.items(), key=lambda item: (item[0][1], item[0][0])):
        print(f"{times:7} {method:6} {path}")
    kinds = {of_any_mailbox(one) for one in used}
    print(f"statuses: {', '.join(map(str, sorted(statuses)))}")
    print(
        f"{judged} exchanges, {violations} with violations; {len(used)} of {len(described)} operations exercised, "
        f"{len(kinds)} of {len({of_any_mailbox(one) for one in described})} however the mailbox is named"
    )
    return 1 if violations or not judged else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The health URL and the REST API of real nodes: they follow the state within milliseconds, know no stale answer, change
nothing, and hostile clients do not keep well-behaved ones, nor the cluster, from anything."""
import json

from light import Module
from support import check, lab

SHELL = "#!/bin/sh\n"


def curl(node, path, options="", target="127.0.0.1", host=None):
    """(status, body) as a client on the node (or on `host`) sees it; status 0: no answer."""
    done = (host or node).sh(f"curl -s -m 5 -w '\\n%{{http_code}}' {options} 'http://{target}:9010{path}'", check=False)
    body, _, status = done.stdout.rpartition("\n")
    return int(status or 0), body


def ready(node, module="one", **options):
    return curl(node, f"/var/modules/{module}/ready.txt", **options)


def api(node, path, options="", status=200):
    got, body = curl(node, "/api/v1" + path, options)
    check(got == status, f"GET /api/v1{path}: {got}, wanted {status}")
    return json.loads(body)


def health_url(node):
    one = Module(node, "one", {"start_both": SHELL + "sleep 1\n", "stop_both": SHELL + "sleep 1\n"})
    check(ready(node) == (404, "not ready\n"), "a stopped module: 404")
    check(ready(node, "nosuch")[0] == 404, "an unknown one: 404")
    one.stead("start")
    check(ready(node)[0] == 404 and one.code() != 0, "while start_both runs: 404")
    one.stead("waitstate UP")
    check(ready(node) == (200, "OK"), "UP and Ready: 200 OK")
    check(ready(node, target=node.address(), host=node.lab.client) == (200, "OK"), "from another machine too")
    one.stead("restart")
    check(ready(node)[0] == 404, "during a restart of the application: 404")
    lab.wait_for("ready again", lambda: ready(node)[0] == 200)
    stop = node.spawn([f"{node.lab.stage}/bin/stead", "stop", "-m", "one"])
    lab.wait_for("404 while stop_both runs", lambda: ready(node)[0] == 404, 0.9)
    stop.wait(30)
    one.start()
    return one


def never_stale(node, one):
    """The last word may have been "ready": whoever falls silent after it is not believed."""
    node.kill("stead-host", "STOP")
    lab.wait_for("404 of a frozen host", lambda: ready(node)[0] == 404, 5)
    node.kill("stead-host", "CONT")
    lab.wait_for("200 of a host that goes on", lambda: ready(node)[0] == 200, 5)
    node.kill("steadd", "STOP")
    lab.wait_for("404 under a frozen steadd", lambda: ready(node)[0] == 404, 5)
    node.kill("steadd", "CONT")
    lab.wait_for("200 after it", lambda: ready(node)[0] == 200, 5)
    node.kill("steadd")
    lab.wait_for("404 under a dead steadd", lambda: ready(node)[0] == 404, 1)
    before = node.processes("stead-web")
    node.start_steadd()
    lab.wait_for("200 under a new steadd", lambda: ready(node)[0] == 200, 5)
    lab.wait_for("the stead-web of the new steadd alone", lambda: len(node.processes("stead-web")) == 1)
    check(node.processes("stead-web") != before, "a new steadd has a stead-web of its own")
    node.kill("stead-web")
    lab.wait_for("200 after a death of stead-web", lambda: ready(node)[0] == 200, 5)
    check(one.code() == 2, "the module noticed nothing of it")


def switches(node):
    check("on" in node.stead("boot webstatus").stdout, "on by default")
    node.stead("boot weboff")
    lab.wait_for("no stead-web", lambda: not node.processes("stead-web"))
    check(ready(node)[0] == 0, "off: nobody answers")
    node.stead("boot webon")
    lab.wait_for("200 when on again", lambda: ready(node)[0] == 200)
    before = node.processes("stead-web")
    node.stead("webserver restart")
    lab.wait_for("another stead-web", lambda: node.processes("stead-web") not in (before, []))
    lab.wait_for("200 again", lambda: ready(node)[0] == 200)
    node.stead("boot -m one on")
    check(node.stead("boot on", check=False).returncode == 64, "'boot on' without a module is refused")


def unprivileged(node):
    pid = node.processes("stead-web")[0]
    status = dict(line.split(":", 1) for line in node.sh(f"cat /proc/{pid}/status").stdout.splitlines())
    check("0" not in status["Uid"].split() + status["Gid"].split() and not status["Groups"].split(),
          f"stead-web runs as uid {status['Uid'].split()[0]}, in no other group")
    check(all(int(status[kind], 16) == 0 for kind in ("CapPrm", "CapEff", "CapBnd", "CapAmb")), "without capabilities")
    check(status["NoNewPrivs"].strip() == "1", "and cannot get any")
    limits = node.sh(f"cat /proc/{pid}/limits").stdout
    check(any(line.split()[2:4] == ["0", "0"] for line in limits.splitlines() if line.startswith("Max processes")),
          "it can start no process")
    uid = int(status["Uid"].split()[0])
    refused = node.sh(f"setpriv --reuid {uid} --regid {uid} --clear-groups {node.lab.stage}/bin/stead state", check=False)
    check(refused.returncode != 0, "its user cannot talk to steadd.sock")


def read_only_api(node):
    token = f"-H 'Authorization: Bearer {node.sh('cat /var/lib/stead/web.token').stdout.strip()}'"
    index = api(node, "/")
    check(len(index["paths"]) >= 12, f"the index lists {len(index['paths'])} paths")
    for entry in index["paths"]:
        path = entry["path"].removeprefix("/api/v1").replace("{m}", "one").replace("{r}", "state.local")
        if path == "/cluster/check":  # takes seconds
            continue
        api(node, path, token, status=409 if path.endswith("/mirror") else 200)  # "one" is no mirror
        if entry["token"]:
            api(node, path, status=401)
            api(node, path, "-H 'Authorization: Bearer x'", status=401)
    check(api(node, "/modules/one")["state"] == "UP", "state of a module")
    check(any(r["name"] == "state.local" for r in api(node, "/modules/one/resources")), "its resources")
    check(len(api(node, "/modules/one/log?lines=2", token)["lines"]) == 2, "its log, as many lines as wanted")
    check("allowed" in api(node, "/nosuch", status=404)["error"], "an unknown path names those that are")
    check("not installed" in api(node, "/modules/nosuch/state", status=404)["error"]["message"], "an unknown module")
    api(node, "/modules/one/log?size=1", token, status=400)
    for method, path in (("POST", "/modules/one/stop"), ("DELETE", "/modules/one"), ("PUT", "/modules/one/boot")):
        api(node, path, f"-X {method}", status=405)
    check(api(node, "/modules/one")["state"] == "UP", "nothing of it did anything")
    status, body = curl(node, "/api/v1/modules", target=node.address(), host=node.lab.client)
    check(status == 403, "from another machine the API is closed")
    check(curl(node, "/api/v1/", "-H 'Host: a.example'")[0] == 403, "and under a foreign name")
    everything = json.dumps([api(node, path, token) for path in ("/cluster", "/state", "/modules/one/log", "/cmdlog")])
    key = (node.disk / "etc" / "cluster.key").read_bytes().hex()
    check(key not in everything and token[-70:-1] not in everything, "neither key nor token is shown")


def main():
    lab.enter()
    with lab.Lab(nodes=1) as machine:
        machine.form_cluster()
        node = machine.nodes[0]
        one = health_url(node)
        read_only_api(node)
        unprivileged(node)
        switches(node)
        never_stale(node, one)


if __name__ == "__main__":
    main()

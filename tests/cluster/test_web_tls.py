#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""HTTPS of real nodes: with the node's own certificate and with one of the administrator, for monitors, the module
checker and callers of the API on other machines; and clients that never finish a handshake."""
import json
import sys

from light import Module, light_xml
from support import check, lab

SHELL = "#!/bin/sh\n"
OWN = "/var/lib/stead/web-own.crt"
READY = "/var/modules/one/ready.txt"


def curl(host, node, path, options="", scheme="https", port=9453):
    """(status, body) as a client on `host` sees it; status 0: no answer."""
    done = host.sh(f"curl -s -m 5 -w '\\n%{{http_code}}' {options} '{scheme}://{node.address()}:{port}{path}'", check=False)
    body, _, status = done.stdout.rpartition("\n")
    return int(status or 0), body


def settle(node, **options):
    """A new stead-web serves."""
    lab.wait_for("HTTPS", lambda: curl(node, node, READY, **({"options": "-k"} | options))[0] == 200)


def own_certificate(node, client):
    disk = f"{node.disk}/var"
    mode = node.sh(f"stat -c %a {OWN} /var/lib/stead/web-own.key").stdout.split()
    check(mode == ["644", "600"], "the node made a certificate, and only root can read its key")
    ca = f"--cacert {disk}/web-own.crt"
    check(curl(client, node, READY, ca) == (200, "OK"), "health URL from another machine; the certificate names the address")
    check(curl(client, node, READY)[0] == 0, "nobody else vouches for it")
    check(curl(client, node, READY, scheme="http", port=9010) == (200, "OK"), "plain HTTP is as before")
    for version, status in (("1.0", 0), ("1.1", 0), ("1.2", 200), ("1.3", 200)):
        got = curl(client, node, READY, f"{ca} --tlsv{version} --tls-max {version} --ciphers DEFAULT@SECLEVEL=0")[0]
        check(got == status, f"TLS {version}: {'spoken' if status else 'refused'}")
    check(curl(client, node, READY, scheme="http", port=9453)[0] == 400, "HTTP on the port of HTTPS is told so")
    before = (node.disk / "var" / "web-own.crt").read_text()
    node.stead("webserver restart")
    settle(node)
    check((node.disk / "var" / "web-own.crt").read_text() == before, "a restart keeps it")


def api_with_token(node, client):
    token = node.sh("cat /var/lib/stead/web.token").stdout.strip()
    bearer = f"-k -H 'Authorization: Bearer {token}'"
    status, body = curl(client, node, "/api/v1/modules/one", bearer)
    check(status == 200 and json.loads(body)["state"] == "UP", "the API from another machine, with the node's token")
    check(curl(client, node, "/api/v1/modules/one/log", bearer)[0] == 200, "logs too")
    check(curl(client, node, "/api/v1/modules/one", "-k")[0] == 401, "without the token: 401")
    check(curl(client, node, "/api/v1/modules/one", "-k -H 'Authorization: Bearer x'")[0] == 401, "with a wrong one: 401")
    status, _ = curl(client, node, "/api/v1/modules/one", bearer, scheme="http", port=9010)
    check(status == 403, "in clear: 403, whoever shows the token to the network")
    check(curl(node, node, "/api/v1/modules/one", "-k")[0] == 200, "on the node itself states need no token")
    check(curl(client, node, "/api/v1/modules/one", f"{bearer} -X POST")[0] == 405, "and nothing can be changed")


def administrators_certificate(node, client):
    etc = node.disk / "etc"
    node.sh("cd /etc/stead && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 "
            f"-subj /CN=ours -addext subjectAltName=IP:{node.address()} -keyout web.key -out web.crt 2>/dev/null")
    node.stead("webserver restart")
    settle(node, options=f"--cacert {etc}/web.crt")
    check(curl(client, node, READY, f"--cacert {etc}/web.crt") == (200, "OK"), "/etc/stead/web.crt is used when it is there")
    node.sh("cd /etc/stead && mv web.key kept.key && openssl ecparam -genkey -name prime256v1 -noout -out web.key")
    node.stead("webserver restart")
    lab.wait_for("the reason", lambda: "no HTTPS: /etc/stead/web.crt: the key does not belong" in node.stead("log").stdout)
    lab.wait_for("HTTP", lambda: curl(node, node, READY, scheme="http", port=9010)[0] == 200)
    check(curl(client, node, READY, "-k")[0] == 0, "a key of another certificate: no HTTPS, a reason, and HTTP as before")
    node.sh("rm /etc/stead/web.key")
    node.stead("webserver restart")
    lab.wait_for("the reason", lambda: "no HTTPS: /etc/stead/web.key: is not there" in node.stead("log").stdout)
    check(curl(client, node, READY, "-k")[0] == 0, "a half is not replaced by the node's own")
    node.sh("mv /etc/stead/kept.key /etc/stead/web.key && chmod 644 /etc/stead/web.key")
    node.stead("webserver restart")
    settle(node)
    check("chmod 600 /etc/stead/web.key" in node.stead("log").stdout, "a key that others can read: a warning")
    zipped = "/var/lib/stead/s.zip"
    node.stead(f"snapshot {zipped}")
    key = (etc / "web.key").read_text().splitlines()[1]
    found = node.sh(f"python3 -m zipfile -e {zipped} /run/s && grep -rlF '{key}' /run/s /var/lib/stead/log", check=False)
    check(found.returncode == 1, "neither the support file nor the log holds the key")
    node.sh(f"rm -r {zipped} /run/s /etc/stead/web.key /etc/stead/web.crt")


def checker(node, other):
    watcher = Module(other, "watcher", {"start_both": SHELL, "stop_both": SHELL}, xml=light_xml(
        more=f'<check><module name="one" ident="far"><to addr="{node.address()}" secure="on" interval="1s" timeout="2s"/>'
             "</module></check>"))
    watcher.start()
    check(watcher.stead("get -r module.far").stdout.strip() == "up", "the module checker with secure=\"on\" sees it up")
    node.stead("stop -m one")
    lab.wait_for("it is seen down", lambda: watcher.stead("get -r module.far").stdout.strip() == "down")
    node.stead("start -m one")
    watcher.wait(2)
    watcher.stead("stop")


def switch(node, client):
    path = node.disk / "etc" / "cluster.xml"
    plain = path.read_text()
    for web, port, status in (('https="off"', 9453, 0), ('https_port="9454"', 9454, 200), ('https_port="9454"', 9453, 0)):
        path.write_text(plain.replace("<lans", f"<web {web}/><lans"))
        node.stead("cluster config")
        lab.wait_for(f"{web}: port {port} answers {status}", lambda: curl(client, node, READY, "-k", port=port)[0] == status)
    check(True, "https and https_port of cluster.xml")
    path.write_text(plain)
    node.stead("cluster config")
    settle(node)


HOSTILE = """
import json, socket, ssl, sys, time
target = (sys.argv[1], 9453)
plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
plain.check_hostname, plain.verify_mode = False, ssl.CERT_NONE
kept = []
for i in range(300):  # more than one address may keep
    one = socket.create_connection(target, 5)
    one.settimeout(5)
    kind = i % 4
    try:
        if kind == 1:
            one.sendall(b"\\x16\\x03\\x01\\x02\\x00\\x01\\x00\\x01\\xfc\\x03\\x03")  # the begin of a hello
        elif kind == 2:
            one.sendall(bytes(range(256)))
        elif kind == 3:
            one = plain.wrap_socket(one)
            one.sendall(b"GET /var/")
    except OSError:
        pass
    kept.append(one)
print("ready", flush=True)
begin, trickled = time.monotonic(), 0
while time.monotonic() - begin < 25:
    for one in list(kept):
        one.setblocking(False)
        try:
            if isinstance(one, ssl.SSLSocket):
                one.send(b"x")  # a slow request has no more time for each byte
            if one.recv(1) == b"":
                raise OSError("closed")
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            continue
        except OSError:
            kept.remove(one)
    if not kept:
        break
    time.sleep(0.5)
print(json.dumps({"left": len(kept), "seconds": time.monotonic() - begin}), flush=True)
"""


def hostile(node, client):
    web = node.processes("stead-web")
    attack = client.spawn([sys.executable, "-c", HOSTILE, node.address()], stdout=-1)
    check(attack.stdout.readline() == "ready\n", "300 clients that hold the port of HTTPS")
    bad = [got for got in (curl(client, node, READY, "-k")[0] for _ in range(20)) if got != 200]
    check(not bad, f"a well-behaved one beside them is answered every time {bad}")
    seen = json.loads(attack.communicate(timeout=60)[0])
    check(seen["left"] == 0, f"all of them are closed within {seen['seconds']:.1f} s")
    check(node.processes("stead-web") == web, "stead-web is the same process")
    lab.wait_for("no descriptor left behind", lambda: len(node.sh(f"ls /proc/{web[0]}/fd").stdout.split()) < 40)


def main():
    lab.enter()
    with lab.Lab(nodes=2) as machine:
        machine.form_cluster()
        node, other = machine.nodes
        one = Module(node, "one", {"start_both": SHELL, "stop_both": SHELL})
        one.start()
        settle(node)
        own_certificate(node, machine.client)
        api_with_token(node, machine.client)
        checker(node, other)
        switch(node, machine.client)
        administrators_certificate(node, machine.client)
        hostile(node, machine.client)
        check(one.code() == 2, "the module noticed nothing of it")


if __name__ == "__main__":
    main()

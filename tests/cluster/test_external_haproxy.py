#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A real HAProxy, with its default check interval (2 s, three failures), before three `external` nodes that run nginx: a clean stop and a start
lose no request; after a crash or a loss of power failures end within HAProxy's own check interval. HAProxy repeats and
redispatches nothing here, so every lost request is seen."""
import json
import sys
import time

import support
from light import make_safe
from support import check, lab

PORT, STATS = 8080, 8404
INTER, FALL, TIMEOUT = 2.0, 3, 1.0  # HAProxy's defaults, and its time limit for one check
XML = """<safe><service mode="farm" boot="off"><farm><lan name="default"/></farm>
  <vip><interface_list><interface><virtual_interface type="external"/></interface></interface_list></vip>
  <user/></service></safe>
"""
HOOKS = {"prestart": "#!/bin/sh\nexit 0\n", "start_both": f"""#!/bin/sh
cd "$SAFEUSERVAR" || exit 1
cat >nginx.conf <<END
daemon on; worker_processes 2; pid $SAFEUSERVAR/nginx.pid; error_log $SAFEUSERVAR/error.log;
events {{ worker_connections 1024; }}
http {{ access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  server {{ listen {PORT}; location / {{ return 200 "$(hostname)\\n"; }} }} }}
END
exec nginx -c "$SAFEUSERVAR/nginx.conf" -p "$SAFEUSERVAR"
""", "stop_both": """#!/bin/sh
pid=$(cat "$SAFEUSERVAR/nginx.pid" 2>/dev/null) || exit 0
kill -TERM "$pid" # at once: connections that are open are cut
while [ -e "/proc/$pid" ]; do sleep 0.05; done
"""}


def haproxy(farm):
    config = farm.folder / "haproxy.cfg"
    servers = "".join(f"  server {node.name} {node.address()}:{PORT} check port 9010\n" for node in farm.nodes)
    config.write_text(f"""global
  maxconn 4000
defaults
  mode http
  retries 0
  timeout connect 1s
  timeout check 1s
  timeout client 20s
  timeout server 20s
listen stats
  bind 127.0.0.1:{STATS}
  stats enable
  stats uri /
listen farm
  bind {farm.client.address()}:{PORT}
  balance roundrobin
  option httpchk GET /var/modules/web/ready.txt
  http-check expect status 200
{servers}""")
    farm.client.spawn(["haproxy", "-db", "-f", str(config)], stdout=sys.stdout, stderr=sys.stdout)


def servers_up(farm):
    rows = farm.client.sh(f"curl -s -m 2 'http://127.0.0.1:{STATS}/;csv'", check=False).stdout.splitlines()
    table = [row.split(",") for row in rows if row.startswith("farm,")]
    return sorted(row[1] for row in table if row[1].startswith("node") and row[17] == "UP")


class Load:
    """New connections through HAProxy, 60 a second, while an event happens."""

    def __init__(self, farm, seconds):
        self.begin = time.monotonic()
        self.process = farm.client.spawn([sys.executable, str(support.HERE / "http_load.py"), farm.client.address(),
                                          str(PORT), "60", str(seconds)], stdout=-1)

    def end(self):
        out, _ = self.process.communicate(timeout=60)
        rows = [json.loads(line) for line in out.splitlines()]
        self.failed = [row for row in rows if row[2] != "ok"]
        self.rows = rows
        check(len(rows) > 100, f"{len(rows)} requests")
        return self

    def served_by(self, node, since=0.0):
        return sum(1 for row in self.rows if row[2] == "ok" and row[3] == node.name and row[0] >= since)


def clean_stop_and_start(farm):
    node = farm.nodes[0]
    load = Load(farm, 28)
    time.sleep(2)
    stop = node.spawn([f"{farm.stage}/bin/stead", "stop", "-m", "web"])
    lab.wait_for("node1 out of HAProxy's rotation", lambda: servers_up(farm) == ["node2", "node3"], 9.5)
    check(node.sh("pgrep -x nginx", check=False).returncode == 0, "the application still runs then")
    stop.wait(30)
    check(node.sh("pgrep -x nginx", check=False).returncode != 0, "and is stopped after the drain")
    node.stead("start -m web")
    lab.wait_for("node1 back in rotation", lambda: servers_up(farm) == ["node1", "node2", "node3"], 12)
    back = time.monotonic()
    load.end()
    check(not load.failed, f"a clean stop and a start lose no request ({load.failed[:3]})")
    check(all(load.served_by(each) > 100 for each in farm.nodes), "all three nodes served")
    check(load.served_by(node, back) > 10, "the node serves again after its start")


def failures_end(load, event, bound, what):
    load.end()
    last = max((row[0] for row in load.failed), default=event) - event
    check(load.failed, f"{what} is seen by clients ({len(load.failed)} requests failed)")
    check(last <= bound, f"failures end {last:.1f} s after it; HAProxy's own check takes up to {bound:.1f} s")


def crash(farm):
    node = farm.nodes[1]
    load = Load(farm, 12)
    time.sleep(1)
    event = time.monotonic()
    node.sh("pkill -KILL -x 'nginx|stead-host|steadd'")
    failures_end(load, event, FALL * INTER + 1.5, "a crash of application and Stead")
    check(servers_up(farm) == ["node1", "node3"], "HAProxy took the node out")
    node.start_steadd()
    farm.start("web", [node])
    lab.wait_for("node2 back in rotation", lambda: servers_up(farm) == ["node1", "node2", "node3"], 12)


def restart_by_a_rule(farm):
    """An automatic restart does not wait for the balancer: the application is down already."""
    node = farm.nodes[2]
    node.kill("nginx")
    begun = time.monotonic()
    node.stead("restart -m web -i test")
    lab.wait_for("ready again", lambda: node.ready("web") and node.sh("pgrep -x nginx", check=False).returncode == 0, 8)
    check(time.monotonic() - begun < 8, f"an automatic restart does not drain ({time.monotonic() - begun:.1f} s)")


def power_loss(farm):
    lab.wait_for("all in rotation", lambda: servers_up(farm) == ["node1", "node2", "node3"], 12)
    load = Load(farm, 14)
    time.sleep(1)
    event = time.monotonic()
    farm.nodes[2].power_off()
    failures_end(load, event, FALL * (INTER + TIMEOUT) + TIMEOUT + 1.5, "a loss of power")


def main():
    lab.enter()
    with lab.Lab(nodes=3) as farm:
        farm.form_cluster()
        farm.install("web", make_safe("web", HOOKS, XML))
        haproxy(farm)
        time.sleep(0.5)
        check(servers_up(farm) != ["node1", "node2", "node3"], "nothing started: HAProxy does not see three servers")
        farm.start("web")
        lab.wait_for("three servers", lambda: servers_up(farm) == ["node1", "node2", "node3"], 15)
        check("external" in farm.nodes[0].stead("state -m web -v").stdout, "state -v says that delivery is external")
        clean_stop_and_start(farm)
        crash(farm)
        restart_by_a_rule(farm)
        power_loss(farm)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Modules made on the spot for tests of the module host: hooks given as text, installed through the real CLI."""
import time
import zipfile

import support  # noqa: F401  (puts tests/support on the path)
import lab

USER = '<user nicestoptimeout="2s" forcestoptimeout="2s"/>'


def make_safe(name, hooks, xml):
    path = lab.temporary("safe") / f"{name}.safe"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("conf/userconfig.xml", xml)
        for hook, text in hooks.items():
            entry = zipfile.ZipInfo(f"bin/{hook}")
            entry.external_attr = (0o100644 if hook.endswith(".lua") else 0o100755) << 16
            archive.writestr(entry, text)
    return path


def light_xml(user=USER, more="", attributes=""):
    return f'<safe><service mode="light" {attributes}>{more}{user}</service></safe>\n'


class Module:
    """A module on one node, driven by the commands that people type."""
    last_id = 0

    def __init__(self, node, name, hooks=None, xml=None, **options):
        self.node, self.name = node, name
        type(self).last_id += 1
        hooks = {"prestart": "#!/bin/sh\nexit 0\n", **(hooks or {})}
        archive = make_safe(name, hooks, xml or light_xml(**options))
        node.stead(f"module install -m {name} -M {type(self).last_id} {archive}")
        self.configured = node.stead(f"config -m {name}")

    def stead(self, command, check=True, timeout=60):
        verb, _, rest = command.partition(" ")
        return self.node.stead(f"{verb} -m {self.name} {rest}", check=check, timeout=timeout)

    def log(self):
        return self.stead("log -s 2000").stdout

    def folder(self):
        return self.node.disk / "var" / "modules" / self.name

    def edited(self):
        return self.node.disk / "etc" / "modules" / self.name

    def user_log(self):
        return (self.folder() / "userlog").read_text("utf-8", "replace")

    def code(self):
        return self.stead("state -lq", check=False).returncode

    def wait(self, code, timeout=15):
        lab.wait_for(f"{self.name}: state -lq {code}", lambda: self.code() == code, timeout)

    def start(self, timeout=15):
        self.stead("start")
        lab.wait_for(f"{self.name} Ready", lambda: self.node.ready(self.name), timeout)

    def running(self, what):
        """How many processes of the node have this in their command line."""
        found = self.node.sh(f"pgrep -c -f '{what[0]}[{what[1]}]{what[2:]}'", check=False).stdout.strip()
        return int(found or 0)


def seconds_of(action):
    begun = time.monotonic()
    action()
    return time.monotonic() - begun

# SPDX-License-Identifier: Apache-2.0
"""A farm on one machine: nodes, a switch and a client as namespaces with real processes.

Everything lives below one process in private mount, network and pid namespaces (enter() makes them), so that a lab
cannot see or touch anything of the machine, and vanishes with its first process. Needs root.

    lab.enter()                       # at the start of the program: re-executes it inside fresh namespaces
    with lab.Lab(nodes=3) as farm:
        farm.form_cluster()
        farm.nodes[0].power_off()
"""
import atexit
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
LANS = {"default": ("10.42.0", "fd42::"), "repli": ("10.43.0", "fd43::")}
BRIDGES = ("br0", "br1")
VIP = "10.42.0.100"
VIP6 = "fd42::100"
CLIENTS = "10.42.100.1+50"
MARK = "STEAD_LAB_INSIDE"


def enter():
    """Re-executes this program in namespaces of its own; exits 77 (SKIPPED) without root."""
    if os.geteuid() != 0:
        print("SKIPPED: a lab needs root")
        sys.exit(77)
    if os.environ.get(MARK) != "1":
        os.environ[MARK] = "1"
        os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:" + os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        os.execvp("unshare", ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
                              "--propagation", "private", "sh", "-c", '"$@"; exit $?', "lab",  # pid 1 must reap
                              sys.executable, *sys.argv])
    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(int(os.environ.get("STEAD_LAB_SECONDS", "380")))
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    sh("ip link set lo up")


def out_of_time(*_):
    """Better an exception with the nodes' logs than a test that ctest kills in silence."""
    raise TimeoutError("the lab's time is up")


def sh(command, **options):
    return subprocess.run(command, shell=True, check=options.pop("check", True), text=True, capture_output=True,
                          **options)


def temporary(kind):
    """A folder of this process, gone at its end."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"stead-{kind}-"))
    atexit.register(remove, folder)
    return folder


def remove(folder):
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():  # a mirror that was killed leaves an immutable mount point
        sh(f"chattr -R -i {folder}", check=False)
        shutil.rmtree(folder, ignore_errors=True)


def stage():
    """The staged tree under test: STEAD_STAGE, else what scripts/build left."""
    path = pathlib.Path(os.environ.get("STEAD_STAGE", ROOT / "build" / "stage"))
    if not (path / "bin" / "stead").exists():
        sys.exit(f"{path}/bin/stead is not there: run scripts/build")
    return path


def traffic_program():
    if "STEAD_TRAFFIC" in os.environ:
        return os.environ["STEAD_TRAFFIC"]
    for build in ("release", "dev"):
        path = ROOT / "build" / build / "tests" / "support" / "traffic" / "stead-traffic"
        if path.exists():
            return str(path)
    sys.exit("stead-traffic is not built: run scripts/build")


def seed(variable):
    """What a lab draws from: the variable, or in the long tier anything, or always the same, so that a commit is judged alike."""
    return int(os.environ.get(variable, 0)) or (random.SystemRandom().randrange(1, 1_000_000) if os.environ.get("STEAD_LONG") else 1)


def wait_for(what, condition, timeout=10.0):
    """Polls until condition() is true; a generous bound, never a race hidden by a sleep. Looking may take processor time
    from what is looked at: at most a third of it."""
    end = time.monotonic() + timeout
    while True:
        begin = time.monotonic()
        value = condition()
        if value:
            return value
        now = time.monotonic()
        if now > end:
            raise TimeoutError(f"{what}: not within {timeout} s")
        time.sleep(min(max(0.02, 2 * (now - begin)), 0.2))


class Host:
    """One machine of the lab: network, mount, pid and uts namespaces, with a disk that survives its power."""

    def __init__(self, lab, name, number):
        self.lab, self.name, self.number = lab, name, number
        self.disk = lab.folder / name
        self.init, self.spawned = None, []
        for folder in ("etc", "var"):
            (self.disk / folder).mkdir(parents=True)

    def port(self, lan="default"):
        return f"p{self.number}" + ("" if lan == "default" else "r")

    def bridge(self, lan="default"):
        return BRIDGES[0] if lan == "default" else BRIDGES[1]

    def device(self, lan="default"):
        return "eth0" if lan == "default" else "eth1"

    def power_on(self):
        script = (f"mount --bind {self.disk}/etc /etc/stead && mount --bind {self.disk}/var /var/lib/stead && "
                  f"mount -t tmpfs tmpfs /run && hostname {self.name} && ip link set lo up && "
                  f"touch {self.disk}/up && exec sh -c 'while sleep 86400; do :; done' {self.tag()}")
        (self.disk / "up").unlink(missing_ok=True)
        self.init = subprocess.Popen(["unshare", "--mount", "--net", "--pid", "--uts", "--fork", "--kill-child",
                                      "--mount-proc", "--propagation", "private", "sh", "-c", script],
                                     stdin=subprocess.DEVNULL, stderr=open(self.disk / "init.log", "a"))
        wait_for(f"{self.name} to boot", lambda: (self.disk / "up").exists() and self.pid())
        for lan in self.lab.lans:
            self.plug_in(lan)

    def tag(self):
        """In the command line of the host's first process, which also reaps: how to find it from outside the lab."""
        return f"{self.lab.folder.name}-{self.name}"

    def pid(self):
        """The first process inside, as this program sees it."""
        children = pathlib.Path(f"/proc/{self.init.pid}/task/{self.init.pid}/children").read_text().split()
        return int(children[0]) if children else None

    def plug_in(self, lan):
        four, six = LANS[lan]
        port, device = self.port(lan), self.device(lan)
        sh(f"ip link add {port} type veth peer name {device} netns {self.pid()} && "
           f"ip link set {port} master {self.bridge(lan)} && ip link set {port} up")
        # A server has had its link-local address for long when steadd starts; until it has, its kernel asks for no neighbour.
        self.sh(f"sysctl -qw net.ipv6.conf.{device}.accept_dad=0")
        for address in self.addresses(lan):
            self.sh(f"ip addr add {address} dev {device} nodad" if ":" in address
                    else f"ip addr add {address} dev {device}")
        self.sh(f"ip link set {device} up")

    def addresses(self, lan):
        four, six = LANS[lan]
        return [f"{four}.{10 + self.number}/16", f"{six}{10 + self.number}/64"]

    def address(self, lan="default"):
        return f"{LANS[lan][0]}.{10 + self.number}"

    def inside(self, own_pids=True):
        """Without own_pids the command is this program's direct child and gets its signals, but outlives the power."""
        return ["nsenter", "-t", str(self.pid()), "-r", "--wdns=/", "-m", "-n", "-u", *(["-p"] if own_pids else []), "--"]

    def sh(self, command, check=True, timeout=60):
        done = subprocess.run([*self.inside(), "sh", "-c", command], text=True, capture_output=True, timeout=timeout)
        if check and done.returncode != 0:
            raise RuntimeError(f"{self.name}: {command}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def spawn(self, argv, own_pids=True, **options):
        self.spawned.append(subprocess.Popen([*self.inside(own_pids), *argv], text=True, **options))
        return self.spawned[-1]

    def power_off(self):
        """Like pulling the plug: every process dies at once, the link goes down, the disk stays."""
        for process in self.spawned:  # nsenter stops with its child, and then would not reap it
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
        os.kill(self.pid(), signal.SIGKILL)
        self.init.wait()
        for lan in self.lab.lans:
            sh(f"ip link del {self.port(lan)}", check=False)

    def unplug_silently(self, lan="default"):
        """The switch port is pulled: the carrier stays up, nothing arrives."""
        sh(f"ip link set {self.port(lan)} nomaster")

    def plug_back(self, lan="default"):
        sh(f"ip link set {self.port(lan)} master {self.bridge(lan)}")

    def link_down(self, lan="default"):
        sh(f"ip link set {self.port(lan)} down")

    def link_up(self, lan="default"):
        sh(f"ip link set {self.port(lan)} up")

    def deafen(self, other, lan="default"):
        """One-way cut: this host no longer hears `other` (by MAC, so that every protocol is cut)."""
        mac = json.loads(other.sh(f"ip -j link show {other.device(lan)}").stdout)[0]["address"]
        self.sh("nft add table netdev cut; nft add chain netdev cut "
                f"c{self.device(lan)} '{{ type filter hook ingress device {self.device(lan)} priority -500; }}'; "
                f"nft add rule netdev cut c{self.device(lan)} ether saddr {mac} drop")

    def hear_all(self):
        self.sh("nft delete table netdev cut", check=False)

    def processes(self, pattern):
        """Pids (as seen inside) of processes with this exact name."""
        return [int(pid) for pid in self.sh(f"pgrep -x {pattern}", check=False).stdout.split()]

    def kill(self, pattern, signal_name="KILL"):
        self.sh(f"pkill -{signal_name} -x {pattern}", check=False)


class Node(Host):
    """A host that runs steadd."""

    def __init__(self, lab, name, number):
        super().__init__(lab, name, number)
        self.steadd = None

    def stead(self, command, check=True, timeout=60):
        return self.sh(f"{self.lab.stage}/bin/stead {command}", check=check, timeout=timeout)

    def start_steadd(self, until="cluster state"):
        log = open(self.disk / "steadd.log", "a")
        self.steadd = self.spawn([f"{self.lab.stage}/sbin/steadd", "--foreground"], stdout=log, stderr=log,
                                 stdin=subprocess.DEVNULL)
        wait_for(f"steadd of {self.name}", lambda: self.stead(until, check=False).returncode == 0)

    def state(self, module):
        """As `stead state -lq` exits: 0 STOP, 1 WAIT, 2 ALONE or UP, 3 PRIM, 4 SECOND."""
        return self.stead(f"state -m {module} -lq", check=False).returncode

    def ready(self, module):
        done = self.stead(f"state -m {module} --json", check=False)
        return done.returncode == 0 and json.loads(done.stdout)["modules"][0]["qualifier"] == "Ready"

    def freeze(self):
        self.sh("pkill -STOP -x 'steadd|stead-host|stead-fs|stead-web'", check=False)

    def thaw(self):
        self.sh("pkill -CONT -x 'steadd|stead-host|stead-fs|stead-web'", check=False)


class Lab:
    def __init__(self, nodes=3, lans=("default",), profile="default"):
        self.stage, self.lans, self.profile = stage(), lans, profile
        self.folder = temporary("lab")
        self.nodes = [Node(self, f"node{i + 1}", i + 1) for i in range(nodes)]
        self.client = Host(self, "client", 150)
        self.running = []
        for folder in ("/etc/stead", "/var/lib/stead"):
            pathlib.Path(folder).mkdir(parents=True, exist_ok=True)

    def __enter__(self):
        for bridge in BRIDGES[:len(self.lans)]:
            sh(f"ip link add {bridge} type bridge mcast_snooping 0 && ip link set {bridge} up")
        for host in [*self.nodes, self.client]:
            host.power_on()
        addresses = "".join(f"addr add 10.42.100.{i}/16 dev eth0\naddr add fd42::c:{i:x}/64 dev eth0 nodad\n"
                            for i in range(1, 201))
        self.client.sh(f"ip -batch - <<END\n{addresses}END")
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None and kind is not SystemExit:
            self.print_logs()
        for process in self.running:
            process.kill()
        for host in [*self.nodes, self.client]:
            if host.init.poll() is None:
                host.power_off()
        for bridge in BRIDGES[:len(self.lans)]:
            sh(f"ip link del {bridge}", check=False)
        remove(self.folder)

    def print_logs(self):
        for node in self.nodes:
            for path in [node.disk / "steadd.log", *(node.disk / "var").rglob("*log*")]:
                if path.is_file() and b"\0" not in path.read_bytes()[:512]:
                    print(f"---- {node.name} {path.name}\n" + "\n".join(path.read_text("utf-8", "replace").splitlines()[-40:]))

    def cluster_xml(self):
        lans = "".join(
            f'<lan name="{lan}">' + "".join(f'<node name="{node.name}" addr="{node.address(lan)}"/>'
                                            for node in self.nodes) + "</lan>" for lan in self.lans)
        return f'<cluster><lans profile="{self.profile}">{lans}</lans></cluster>\n'

    def form_cluster(self):
        """One key, one cluster.xml, steadd everywhere."""
        for node in self.nodes:
            (node.disk / "etc" / "cluster.xml").write_text(self.cluster_xml())
        self.nodes[0].stead("cluster genkey")
        key = (self.nodes[0].disk / "etc" / "cluster.key").read_bytes()
        for node in self.nodes[1:]:
            path = node.disk / "etc" / "cluster.key"
            path.touch(mode=0o600)
            path.write_bytes(key)
        for node in self.nodes:
            node.start_steadd()

    def install(self, module, archive, module_id=1, macros=None):
        """Installs and configures a module on every node; `macros` replaces values in userconfig.xml."""
        for node in self.nodes:
            node.stead(f"module install -m {module} -M {module_id} {archive}")
            path = node.disk / "etc" / "modules" / module / "conf" / "userconfig.xml"
            text = path.read_text()
            for name, value in (macros or {}).items():
                text = replace_macro(text, name, value)
            path.write_text(text)
            node.stead(f"config -m {module}")

    def start(self, module, nodes=None, timeout=20):
        for node in nodes or self.nodes:
            node.stead(f"start -m {module}")
        for node in nodes or self.nodes:
            wait_for(f"{module} ready on {node.name}", lambda: node.ready(module), timeout)

    def traffic(self, mode, *arguments, host=None, **options):
        """Starts the traffic program (in the client by default); finish it with result()."""
        process = (host or self.client).spawn([traffic_program(), mode, *map(str, arguments)],
                                              own_pids=host is not None,
                                                    stdout=subprocess.PIPE, **options)
        self.running.append(process)
        return process


def keep(cluster, tries):
    """Leaves the lab up until a key is pressed, and says how to enter a node and what to try."""
    signal.alarm(0)
    print("\nThe lab stays up until you press Ctrl-C (or end of input). Enter a node from another terminal:")
    for host in [*cluster.nodes, cluster.client]:
        print(f"  {host.name:7} nsenter -r --wdns=/ -m -n -p -u -t $(pgrep -n -f {host.tag()}) bash")
    own = "/run, /etc/stead, /var/lib/stead" + (", /srv" if (cluster.nodes[0].disk / "srv").is_dir() else "")
    print(f"Of its own a node has network, processes, {own}; all other files are this machine's.")
    print("Try: " + "\n     ".join(tries))
    try:
        while sys.stdin.readline():
            pass
    except KeyboardInterrupt:
        pass


def replace_macro(text, name, value):
    import re
    changed, count = re.subn(rf'(<macro\s+name="{name}"\s+value=")[^"]*(")', rf"\g<1>{value}\g<2>", text)
    if count != 1:
        raise ValueError(f"userconfig.xml has {count} macros {name}")
    return changed


def result(process, timeout=120):
    """Waits for a traffic program and returns its summary."""
    out, _ = process.communicate(timeout=timeout)
    return json.loads(out.strip().splitlines()[-1])

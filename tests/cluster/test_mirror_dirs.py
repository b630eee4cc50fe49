#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What may be replicated: several directories, what is left out of them, what must be there, what the secondary shows; and
what is refused, with file and line; a disk that is full, or not mounted; nodes that are not alike.
Usage: test_mirror_dirs.py refused|several|left|read_only|full|disk|dead|unlike"""
import sys
import time

import mirror
from light import make_safe
from mirror import ALONE, PRIM, SECOND, STOP
from support import check, lab

WEB, MAIL = "/srv/web", "/srv/mail box"


def refused(nodes):
    """Each is refused at config, by line and value, and nothing is in force."""
    node = nodes.nodes[0]
    node.sh("mkdir -p /srv/data/sub /srv/other; touch /srv/file; ln -s data /srv/link")
    cases = {
        '<replicated dir="/srv/data"/>\n<replicated dir="/srv/data/sub"/>': (":3: ", "/srv/data/sub", "one in the other"),
        '<replicated dir="/srv/data"/>\n<replicated dir="/srv/data/"/>': (":3: ", "/srv/data", "given twice"),
        '<replicated dir="/srv/data"/>\n<replicated dir="/srv//data"/>': (":3: ", "/srv/data", "given twice"),
        '<replicated/>': (":2: ", "dir", "allowed"),
        '<replicated dir=""/>': (":2: ", "dir", "allowed"),
        '<replicated dir="/srv/data/../other"/>': (":2: ", "/srv/data/../other", "absolute"),
        '<replicated dir="/srv/data"/>\n<replicated dir="/srv/data_For_SafeKit_Replication"/>':
            (":3: ", "_For_SafeKit_Replication", "aside"),
        '<replicated dir="/"/>': (":2: ", "root"),
        '<replicated dir="data"/>': (":2: ", "'data'"),
        '<replicated dir="/srv/link/"/>': (":2: ", "'/srv/link'", "symbolic link", "allowed"),
        '<replicated dir="/srv/file"/>': (":2: ", "'/srv/file'", "a file", "allowed"),
        '<replicated dir="/proc/sys"/>': (":2: ", "'/proc/sys'", "/proc", "allowed"),
        '<replicated dir="/var"/>': (":2: ", "'/var'", "/var/lib/stead", "allowed"),
        '<replicated dir="/usr"/>': (":2: ", "'/usr'", "/usr/bin", "allowed"),
        # All that is wrong in a file at once: values that the schema refuses, and what the plugin has to say of the rest.
        '<replicated dir="/srv/data" mode="r"/>\n<replicated dir="/srv/file"/>\n<replicated dir="/srv/d"><tocheck/></replicated>\n'
        '<replicated dir="/srv/other"><notreplicated path="/x"/></replicated>':
            (":2: ", "'r'", ":3: ", "'/srv/file'", ":4: ", "tocheck", ":5: ", "'/x'"),
        '<replicated dir="/srv/data"><notreplicated path="../other"/></replicated>': (":2: ", "../other", "below dir"),
        '<replicated dir="/srv/data"><notreplicated path="/srv/data/tmp"/></replicated>': (":2: ", "/srv/data/tmp", "below dir"),
        '<replicated dir="/srv/data"><notreplicated regexpath="a(b"/></replicated>': (":2: ", "a(b", "allowed"),
        '<replicated dir="/srv/data"><notreplicated regexpath=""/></replicated>': (":2: ", "regexpath", "allowed"),
        '<replicated dir="/srv/data"><notreplicated regexpath="/srv/data/.*"/></replicated>':
            (":2: ", "/srv/data/.*", "relative", "allowed"),
        '<replicated dir="/srv/data"><notreplicated/></replicated>': (":2: ", "<notreplicated>", 'path="tmp"', "regexpath"),
        '<replicated dir="/srv/data"><notreplicated path=""/></replicated>': (":2: ", "''", "below dir"),
        '<replicated dir="/srv/data"><notreplicated path="a/./b"/></replicated>': (":2: ", "a/./b", "below dir"),
        '<replicated dir="/srv/data"><tocheck/></replicated>': (":2: ", "path", "allowed"),
        '<replicated dir="/srv/data"><tocheck path=""/></replicated>': (":2: ", "''", "below dir"),
        '<replicated dir="/srv/data"><tocheck path="/srv/data/MARKER"/></replicated>': (":2: ", "/srv/data/MARKER", "below dir"),
        "".join(f'<replicated dir="/srv/d{i}"/>' for i in range(33)): (":1: ", "33", "allowed: 32"),
        '<replicated dir="/srv/data"><tocheck path="../other"/></replicated>': (":2: ", "../other", "below dir"),
        '<replicated dir="/srv/data" mode="readonly"/>': (":2: ", "readonly", "read_only"),
        '<flow name="nosuch"/><replicated dir="/srv/data"/>': (":2: ", "flow/@name", "'nosuch'", "allowed: default"),
        "": (":1: ", "nothing to replicate"),
    }
    for number, (xml, wanted) in enumerate(cases.items()):
        text = f'<safe><service mode="mirror"><rfs>\n{xml}</rfs><user/></service></safe>\n'
        node.stead(f"module install -m m{number} -M {number + 1} {make_safe(f'm{number}', {}, text)}")
        done = node.stead(f"config -m m{number}", check=False)
        missing = [word for word in wanted if word not in done.stderr]
        check(done.returncode != 0 and not missing, f"refused: {xml!r}: {done.stderr.strip()} {missing or ''}")
    others(node)


def others(node):
    """What another module has: as it is, inside, around, and where its data are kept aside."""
    def configure(name, number, directory):
        text = f'<safe><service mode="mirror"><rfs>\n<replicated dir="{directory}"/></rfs><user/></service></safe>\n'
        node.stead(f"module install -m {name} -M {number} {make_safe(name, {}, text)}")
        return node.stead(f"config -m {name}", check=False)
    check(configure("owner", 50, "/srv/own/data").returncode == 0, "the first one has it")
    check(node.stead("config -m owner", check=False).returncode == 0, "and may be configured again")
    for number, directory in enumerate(("/srv/own/data", "/srv/own/data/sub", "/srv/own", "/srv/own/data_For_SafeKit_Replication")):
        done = configure(f"other{number}", 51 + number, directory)
        missing = [word for word in (":2: ", f"'{directory}'", "'owner'", "allowed") if word not in done.stderr]
        check(done.returncode != 0 and not missing, f"refused: {directory} beside it: {done.stderr.strip()} {missing or ''}")
    check(configure("beside", 60, "/srv/own/data2").returncode == 0, "a directory beside it is nobody's")
    node.stead("deconfig -m owner")
    check(node.stead("config -m other0", check=False).returncode == 0, "what is not configured any more is free")
    corrected(node)


def corrected(node):
    """A command that starts the module, while the host of the failed start is on its way out."""
    stead = node.lab.stage / "bin/stead"
    node.sh("mkdir -p /srv/own")
    for turn in range(1, 6):
        done = node.sh(f"rm -rf /srv/own/data2; {stead} second -m beside; mkdir -p /srv/own/data2; {stead} second -m beside",
                       check=False)
        check("the replicated directory is missing: make it" in done.stderr and done.returncode == 0 and
              "this node follows" in done.stdout, f"second at once again, turn {turn}: {done.stdout} {done.stderr}")
        node.stead("stop -m beside")


def several(nodes):
    """Two directories with exclusions: what is left out stays on its node, through a swap, a crash and a verify."""
    xml = mirror.mirror_xml(replicated=f'<replicated dir="{WEB}"><notreplicated path="tmp"/>'
                            r'<notreplicated regexpath=".*\.swp"/><tocheck path="MARKER"/></replicated>'
                            f'<replicated dir="{MAIL}"/>')
    for node in nodes.nodes:
        node.sh(f"mkdir -p '{WEB}' '{MAIL}'")
    module = mirror.Mirror(nodes, xml=xml)
    one, two = module.nodes
    one.sh(f"echo 1 >'{WEB}/MARKER'; mkdir '{WEB}/tmp' '{WEB}/sub'; echo here >'{WEB}/tmp/local'; echo x >'{WEB}/sub/a.swp'; "
           f"echo yes >'{WEB}/sub/a'; echo mail >'{MAIL}/inbox'")
    module.form()
    check(one.sh(f"mv '{WEB}/sub/a' '{WEB}/tmp/a'; cat '{WEB}/tmp/a'").stdout == "yes\n",
          "a move into what is left out works: mv copies")
    check(one.sh(f"python3 -c 'import os; os.rename(\"{WEB}/MARKER\", \"{WEB}/tmp/M\")'", check=False).returncode != 0,
          "a rename across that border is refused")
    one.sh(f"echo 2 >'{WEB}/sub/b'; echo y >'{WEB}/sub/b.swp'; echo more >>'{MAIL}/inbox'")
    module.stead(one, "swap")
    module.wait_ready(two, PRIM)
    module.wait_ready(one, SECOND)
    seen = two.sh(f"cd '{WEB}'; find . -type f | sort; cat sub/b '{MAIL}/inbox'").stdout
    check(seen == "./MARKER\n./sub/b\n2\nmail\nmore\n", f"the other node has what is replicated, and nothing else: {seen!r}")
    two.sh(f"mkdir '{WEB}/tmp'; echo there >'{WEB}/tmp/local'")
    two.kill("stead-fs")
    module.wait_ready(one, ALONE)
    seen = one.sh(f"cat '{WEB}/tmp/local' '{WEB}/sub/b.swp' '{WEB}/tmp/a'").stdout
    check(seen == "here\ny\nyes\n", f"what is left out is still on its node: {seen!r}")
    one.sh(f"rm '{WEB}/sub/b'; echo 3 >'{MAIL}/new'")
    module.wait_ready(two, SECOND, timeout=30)
    module.wait_ready(one, PRIM)
    said = module.stead(one, "rfsverify", timeout=60).stdout + module.stead(one, "rfsdiff").stdout
    check(" 0 differ" in said, f"verify does not look at what is left out: {said.strip()}")
    module.stop()
    seen = two.sh(f"cd '{WEB}'; find . -type f | sort; cat tmp/local '{MAIL}/new'").stdout
    check(seen == "./MARKER\n./tmp/local\nthere\n3\n", f"stopped, everything is at its place: {seen!r}")
    one.sh(f"mv '{WEB}' /srv/away; mkdir '{WEB}'")  # the disk was not mounted, say
    module.stead(one, "start", check=False)
    lab.wait_for("it stops", lambda: one.state("data") == STOP and "tocheck" in module.log(one))
    check(not module.stead(one, "prim", check=False).returncode == 0, "and even prim does not serve an empty disk")


def left(nodes):
    """After a power cut the data lie aside: a configuration that forgot them puts them back, and the module does not go
    while they are there."""
    both = f'<replicated dir="{mirror.DATA}"/><replicated dir="{MAIL}"/>'
    for node in nodes.nodes:
        node.sh(f"mkdir -p '{MAIL}'")
    module = mirror.Mirror(nodes, replicated=both)
    one, two = module.form()
    one.sh(f"echo kept >{mirror.DATA}/file; echo mail >'{MAIL}/inbox'; sync")
    for node in module.nodes:
        node.power_off()
    for node in module.nodes:
        mirror.power_on_again(node)
        for verb in ("module uninstall", "deconfig"):
            refused = node.stead(f"{verb} -m data", check=False)
            check(refused.returncode != 0 and "var/mirror/aside" in refused.stderr, f"{verb}: {refused.stderr.strip()}")
        xml = node.disk / "etc" / "modules" / "data" / "conf" / "userconfig.xml"
        xml.write_text(mirror.mirror_xml())
        node.stead("config -m data")
    for node in module.nodes:
        module.stead(node, "start")
    lab.wait_for("both in service", lambda: sorted(node.state("data") for node in module.nodes) == [PRIM, SECOND], 30)
    for node in module.nodes:
        check(node.sh(f"cat '{MAIL}/inbox'").stdout == "mail\n", f"{node.name}: what is not replicated any more is at its place")
        check("not replicated as before" in module.log(node), "and the log says so")
    module.stop()
    for node in module.nodes:
        node.stead("module uninstall -m data")
        check(node.sh(f"cat {mirror.DATA}/file '{MAIL}/inbox'").stdout == "kept\nmail\n", f"{node.name}: all is at its place")


def read_only(nodes):
    """The secondary's users read the copy as it is, and cannot write, whatever they try."""
    module = mirror.Mirror(nodes, replicated=f'<replicated dir="{mirror.DATA}" mode="read_only"/>')
    one, two = module.form()
    for round_, (server, reader) in enumerate(((one, two), (two, one), (one, two))):
        server.sh(f"cd {mirror.DATA}; echo {round_} >value; mkdir -p d{round_}; echo text >d{round_}/file")
        check(reader.sh(f"cat {mirror.DATA}/value {mirror.DATA}/d{round_}/file").stdout == f"{round_}\ntext\n",
              f"{reader.name} reads what {server.name} wrote")
        for attempt in ("echo no >value", "touch new", "mkdir new", "rm value", "mv value other", "chmod 777 value",
                        "ln value hard", "setfattr -n user.a -v b value"):
            done = reader.sh(f"cd {mirror.DATA} && {attempt}", check=False)
            check(done.returncode != 0, f"{reader.name}: {attempt!r} is refused: {done.stderr.strip()}")
        # Somebody stands in the copy with a file open: the role must move all the same.
        held = reader.spawn(["sh", "-c", f"cd {mirror.DATA} && exec sleep 300 <value"])
        if round_ < 2:
            module.stead(server, "swap")
            module.wait_ready(reader, PRIM)
            module.wait_ready(server, SECOND)
        held.kill()
        held.wait()
    two.kill("stead-fs")
    module.wait_ready(two, SECOND, timeout=30)
    module.wait_ready(one, PRIM)
    check(two.sh(f"cat {mirror.DATA}/value").stdout == "2\n", "after a crash of the secondary its copy is shown again")
    module.stop()
    mirror.same_trees(module, "read-only copies")
    for node in module.nodes:
        node.sh(f"echo free >{mirror.DATA}/free")
    check(True, "stopped, the data can be written again")


def full(nodes):
    """The secondary's disk is full for a while: the primary goes on, the state says why the other one does not follow, the log
    is not flooded, and it follows again by itself when there is room."""
    module = mirror.Mirror(nodes)
    one, two = module.form()
    # Again and again: what was reserved for delayed allocation is free once it is written.
    two.sh("for i in 1 2 3 4 5 6; do dd if=/dev/zero of=/srv/filler bs=64k oflag=append conv=notrunc 2>/dev/null; sync -f /srv; "
           "done", check=False)
    said_before = module.log(two).count("out of sync")
    one.sh(f"dd if=/dev/urandom of={mirror.DATA}/big bs=1M count=8 conv=fsync 2>/dev/null")
    module.wait_ready(one, ALONE)
    lab.wait_for("its state says why", lambda: "No space left on device" in module.stead(two, "state -v", check=False).stdout)
    check(module.status(two)["storage_failure"].endswith("No space left on device"), "and so does mirror status --json")
    check(module.stead(two, "get -r rfs.reintegre_failed").stdout == "up\n", "and a resource")
    time.sleep(10)
    said = module.log(two).count("out of sync") - said_before
    check(1 <= said <= 20, f"{said} failures told in 10 s")
    one.sh(f"echo more >{mirror.DATA}/more")
    two.sh("rm /srv/filler")
    module.wait_ready(two, SECOND, timeout=40)
    module.wait_ready(one, PRIM)
    check(module.status(two)["storage_failure"] == "", "in sync again, nothing is said of it")
    check(module.stead(two, "get -r rfs.reintegre_failed").stdout == "down\n", "by neither")
    module.stop()
    sums = {node.sh(f"cd {mirror.DATA}; sha256sum *").stdout for node in module.nodes}
    check(len(sums) == 1, f"both have the same: {sums}")


def disk(nodes):
    """What its disk forbids, the mount forbids; and the last holder does not take an empty directory for its data when
    the disk is not mounted."""
    for node in nodes.nodes:
        node.sh("mount -o remount,nosuid,nodev,noexec /srv")
    module = mirror.Mirror(nodes)
    one, two = module.form()
    shown = one.sh(f"grep ' {mirror.DATA} ' /proc/mounts").stdout
    check(all(word in shown for word in ("nosuid", "nodev", "noexec")), f"as /srv is mounted: {shown.strip()}")
    one.sh(f"cp /bin/true {mirror.DATA}/program; echo kept >{mirror.DATA}/file")
    check(one.sh(f"{mirror.DATA}/program", check=False).returncode == 126, "nothing there can be run")
    module.stead(two, "stop")
    module.wait_ready(one, ALONE)
    module.stead(one, "stop")
    one.sh(f"umount /srv && mkdir -p {mirror.DATA}")
    module.stead(one, "start", check=False)
    lab.wait_for("it stops and says why", lambda: one.state("data") == STOP and "is its disk mounted?" in module.log(one))
    refused = module.stead(one, "prim", check=False).stderr
    check("is its disk mounted?" in refused, f"an order tells the same: {refused.strip()}")
    module.stead(two, "start")
    module.wait(two, mirror.WAIT)
    mirror.mount_srv(one)
    module.stead(one, "start")
    module.wait_ready(one, PRIM, timeout=30)
    module.wait_ready(two, SECOND, timeout=30)
    module.stop()
    for node in module.nodes:
        check(node.sh(f"cat {mirror.DATA}/file").stdout == "kept\n", f"{node.name} has its data")


def dead(nodes):
    """The primary's disk dies under an application that only reads: the other node takes over, and the node with the new disk
    follows again."""
    module = mirror.Mirror(nodes)
    one, two = module.form()
    one.sh(f"echo kept >{mirror.DATA}/file; sync {mirror.DATA}/file")
    one.sh("""python3 -c "import fcntl, os, struct
fcntl.ioctl(os.open('/srv', os.O_RDONLY), 0x8004587D, struct.pack('I', 2))" """)  # EXT4_IOC_SHUTDOWN, without its log
    read = one.sh(f"ls -l {mirror.DATA}; cat {mirror.DATA}/new; echo more >>{mirror.DATA}/file", check=False)
    # EIO, or that its file system ended: the node may have stepped down before the answer came.
    check(read.returncode != 0, f"its application is told: {read.stderr.strip()}")
    module.wait_ready(two, ALONE, timeout=15)
    check("the disk of the data failed here" in module.log(one), "the log says why")
    check(two.sh(f"cat {mirror.DATA}/file").stdout == "kept\n", "the other node has the data")
    two.sh(f"echo later >{mirror.DATA}/later")
    module.stead(one, "stop")
    one.sh("umount /srv")
    mirror.mount_srv(one)
    module.stead(one, "start")
    module.wait_ready(one, SECOND, timeout=30)
    module.wait_ready(two, PRIM)
    module.stop()
    check(one.sh(f"cat {mirror.DATA}/later").stdout == "later\n", "and follows when its disk is back")


def unlike(nodes):
    """Two file systems of which one takes less, and an account that has another number on the other node."""
    one, two = nodes.nodes
    two.sh("umount /srv")
    lab.sh(f"mkfs.ext4 -q -F -b 1024 -m 0 {two.disk}/srv.img")
    mirror.mount_srv(two)
    for node, lines in ((one, "app:x:4999:4998::/:/bin/false"),
                        (two, "other:x:4999:4998::/:/bin/false\\napp:x:5001:4998::/:/bin/false")):
        node.sh(f"cp /etc/passwd /run/passwd; printf '{lines}\\n' >>/run/passwd; mount --bind /run/passwd /etc/passwd")
    one.sh("mkdir -p /srv/data; echo content >/srv/data/f; chown 4999:0 /srv/data/f")
    module = mirror.Mirror(nodes)
    module.form()
    lab.wait_for("the other owner is told", lambda: "uid 4999 is 'app' on node1 and 'other' here, where 'app' is 5001"
                 in module.log(two))
    check(two.stead("get -m data -r rfs.owners").stdout.strip() == "down", "as a resource, too")

    def fails(program, error):
        done = one.sh(f"python3 -c 'import os; {program}'", check=False)
        check(done.returncode != 0 and error in done.stderr, f"{program}: {error}: {done.stderr.strip()[-80:]}")
    fails('os.truncate("/srv/data/f", 10 << 40)', "File too large")
    fails('os.setxattr("/srv/data/f", "user.big", b"x" * 2000)', "No space left")
    one.sh("python3 -c 'import os; os.setxattr(\"/srv/data/f\", \"user.small\", b\"x\" * 500)'")
    check((one.state("data"), two.state("data")) == (PRIM, SECOND), "and the secondary follows on")
    shown = two.sh("python3 -c 'import os; print(len(os.getxattr(\"/srv/data_For_SafeKit_Replication/data/f\", "
                   "\"user.small\")))'").stdout.strip()
    check(shown == "500", "what both take is on both")


if __name__ == "__main__":
    case = sys.argv[1]
    with mirror.cluster(srv_mib=48 if case in ("full", "disk", "dead", "unlike") else 0) as pair:
        {"refused": refused, "several": several, "read_only": read_only, "full": full, "disk": disk, "dead": dead,
         "unlike": unlike, "left": left}[case](pair)

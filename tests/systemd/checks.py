"""What systemd and ostler do together. Each check has a machine on which ostler is installed, and no site of an earlier check runs."""

import json
import re

from machine import HERE, wait_for

ALL = []
TCP = "127.0.0.1:8000"
SOCKET = "/run/ostler.sock"
APP = """
def app(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain'), ('Content-Length', '{length}')])
    return [b'{text}']
"""
SETTINGS = 'app = "page:app"\nchdir = "/srv/site"\nworkers = 2\n'


class NotHere(Exception):
    """What a check is about cannot be on this machine; the reason."""


def check(promise):
    """Registers a check, in the order in which they stand here."""
    ALL.append(promise)
    return promise


def site(machine, text="one", before="", settings="", file="/etc/ostler.toml"):
    machine.write("/srv/site/page.py", before + APP.format(text=text, length=len(text)))
    machine.write(file, SETTINGS + settings)


def clean(machine):
    """Takes back what a check has done to the machine."""
    machine.shell("systemctl kill --signal=CONT 'ostler*' || true; systemctl stop 'ostler*.socket' 'ostler*.service' || true;"
                  "systemctl disable --quiet ostler.socket ostler.service 2>/dev/null || true;"
                  "rm -rf /etc/systemd/system/ostler* /etc/ostler.toml /etc/ostler/*.toml /srv/site; systemctl daemon-reload;"
                  "systemctl reset-failed", check=False)


def drop_in(machine, text, unit="ostler.service"):
    machine.write(f"/etc/systemd/system/{unit}.d/test.conf", text)
    machine.run("systemctl", "daemon-reload")


def start(machine, unit="ostler"):
    machine.run("systemctl", "start", unit)


def main_pid(machine, unit="ostler"):
    return int(machine.show(unit, "MainPID"))


def status_text(machine, unit="ostler"):
    return machine.show(unit, "StatusText")


def says(machine, text, unit="ostler"):
    """Waits until systemd has heard this."""
    try:
        wait_for(f"StatusText {text!r}", lambda: status_text(machine, unit) == text)
    except AssertionError as late:
        raise AssertionError(f"{late}; it is {status_text(machine, unit)!r}") from None


def lost(outcome):
    """What went wrong of what clients asked for."""
    return {what: count for what, count in outcome.items() if not what.startswith("200 ")}


def workers(machine, unit="ostler"):
    """The processes of the workers, by the machine's numbers."""
    status = json.loads(machine.run("ostler", "status", "--json", check=False).stdout)
    return [worker["pid"] for generation in status["generations"] for worker in generation["workers"]]


def send(machine, name, *pids):
    machine.shell(f"kill -s {name} {' '.join(map(str, pids))}")


@check
def the_five_lines_of_the_guide_serve_a_site(machine):
    guide = (HERE.parent.parent / "docs/deploying.md").read_text()
    lines = re.search(r"(?s)## systemd\n.*?```sh\n(.*?)```", guide).group(1).strip().splitlines()
    assert len(lines) == 5, lines
    machine.write("/srv/shop/shop.py", APP.format(text="shop", length=4))
    for line in lines:
        done = machine.shell(f"cd /package; export DEBIAN_FRONTEND=noninteractive; {line}")
    assert "generation 2" in done.stdout and "serving" in done.stdout, done.stdout
    with machine.load("/run/ostler-shop.sock") as load:
        pass
    assert "200 shop" in load.outcome and not lost(load.outcome), load.outcome
    machine.run("systemctl", "disable", "--quiet", "ostler@shop.socket", "ostler@shop")


@check
def a_start_is_over_when_the_site_serves_and_says_how_far_it_is(machine):
    # Two workers come through at once, and the others when the last name is there.
    gate = """
import os, time
def first():
    for name in ('one', 'two'):
        try:
            os.mkdir(f'/var/lib/ostler/{name}')
            return True
        except FileExistsError:
            pass
while not first() and not os.path.exists('/var/lib/ostler/open'):
    time.sleep(0.02)
"""
    site(machine, before=gate)
    machine.write("/etc/ostler.toml", SETTINGS.replace("workers = 2", "workers = 4") + 'preload = "off"\n')
    machine.run("systemctl", "start", "--no-block", "ostler")
    says(machine, "booting 2 of 4 workers")
    assert machine.show("ostler", "ActiveState") == "activating"
    machine.shell("touch /var/lib/ostler/open")
    says(machine, "serving generation 1, 4 workers")
    assert machine.show("ostler", "ActiveState", "Type") == ["active", "notify"]
    machine.shell("rm -r /var/lib/ostler/one /var/lib/ostler/two /var/lib/ostler/open")


@check
def a_start_that_fails_says_why(machine):
    for before, settings, code, why in [
        ("raise OSError('no database')\n", "", 10, "no database"),
        ("", "worker = 2\n", 2, "worker"),
        ("", 'bind = "127.0.0.1:8000"\nuser = "nobody-s"\n', 2, "nobody-s"),
        ("", 'error-logfile = "/proc/log"\n', 14, "/proc/log"),
        ("", 'bind = "systemd"\n', 12, "could not bind systemd: systemd has passed no socket. Enable and start ostler.socket."),
        ("", 'python = "/no/python"\n', 13, "/no/python"),
    ]:
        site(machine, before=before, settings=settings)
        assert machine.run("systemctl", "start", "ostler", check=False).returncode != 0, why
        shown = machine.run("systemctl", "status", "ostler", "--no-pager", check=False).stdout
        status = re.search(r"Status: (.*)", shown)
        assert status and why in status.group(1), f"{why}:\n{shown}"
        # systemd has a name for 2 only, and that one is right.
        name = "INVALIDARGUMENT" if code == 2 else "n/a"
        ended = f"Main process exited, code=exited, status={code}/{name}"
        wait_for(ended, lambda: ended in machine.journal("--unit=ostler", "--lines=20"))
        machine.run("systemctl", "stop", "ostler")


@check
def a_reload_under_load_loses_nothing(machine):
    site(machine)
    start(machine)
    pid = main_pid(machine)
    with machine.load(TCP) as load:
        for number in range(2, 5):
            site(machine, text=f"number {number}")
            machine.run("systemctl", "reload", "ostler")
            says(machine, f"serving generation {number}, 2 workers")
    assert not lost(load.outcome) and load.outcome["200 number 4"], load.outcome
    assert main_pid(machine) == pid
    send(machine, "HUP", pid)
    says(machine, "serving generation 5, 2 workers")
    assert machine.show("ostler", "ActiveState") == "active"


@check
def a_reload_of_broken_code_fails_with_the_reason(machine):
    site(machine)
    start(machine)
    site(machine, before="raise KeyError('on purpose')\n")
    with machine.load(TCP) as load:
        reload = machine.run("systemctl", "reload", "ostler", check=False)
    assert reload.returncode != 0, reload
    assert not lost(load.outcome), load.outcome
    # The load may have made a worker the template meanwhile, which replaces the others one by one.
    says(machine, "serving generation 1, 2 workers; generation 2 was discarded: could not import page: KeyError: 'on purpose'")
    assert "KeyError: 'on purpose'" in machine.journal("--unit=ostler")
    assert machine.show("ostler", "ActiveState") == "active"


@check
def a_unit_of_type_notify_reload_reloads_as_well(machine):
    if machine.systemd < 253:
        raise NotHere(f"systemd {machine.systemd} does not have Type=notify-reload")
    drop_in(machine, "[Service]\nType=notify-reload\nExecReload=\n")
    site(machine)
    start(machine)
    site(machine, text="two")
    with machine.load(TCP) as load:
        machine.run("systemctl", "reload", "ostler")
        wait_for("generation 2 with both workers", lambda: status_text(machine).startswith("serving generation 2, 2 workers"))
    assert not lost(load.outcome), load.outcome
    site(machine, before="raise KeyError('on purpose')\n")
    # The reason why this is not the unit's type: systemd takes it for a success.
    machine.run("systemctl", "reload", "ostler")
    assert "generation 3 was discarded" in status_text(machine)


@check
def a_restart_refuses_nobody(machine):
    site(machine)
    start(machine)
    with machine.load(TCP) as load:
        for _ in range(3):
            machine.run("systemctl", "restart", "ostler")
    print(f"        {sum(load.outcome.values())} requests; the longest has waited for {load.longest:.1f} s")
    assert not lost(load.outcome), load.outcome


@check
def a_master_that_is_killed_refuses_nobody(machine):
    site(machine)
    start(machine)
    with machine.load(TCP) as load:
        for number in range(1, 4):
            killed = main_pid(machine)
            send(machine, "KILL", killed)
            wait_for("another master", lambda: main_pid(machine) not in (0, killed) and machine.show("ostler", "ActiveState") == "active")
            assert machine.show("ostler", "NRestarts") == str(number)
    refused = [what for what in load.outcome if what.startswith("refused")]
    # Requests that were under way in the workers, which systemd kills with the master.
    cut = sum(count for what, count in lost(load.outcome).items())
    print(f"        {cut} of {sum(load.outcome.values())} requests cut; the longest has waited for {load.longest:.1f} s")
    assert not refused and cut <= 3 * 4 and load.outcome["200 one"], load.outcome


@check
def a_unix_socket_outlives_its_master(machine):
    site(machine, settings='bind = "unix:/var/lib/ostler/site.sock"\n')
    start(machine)
    with machine.load("/var/lib/ostler/site.sock") as load:
        machine.run("systemctl", "restart", "ostler")
    assert not lost(load.outcome), load.outcome


@check
def an_address_that_a_reload_gives_up_is_free(machine):
    site(machine, settings='bind = ["127.0.0.1:8000", "127.0.0.1:8001"]\n')
    start(machine)
    assert machine.show("ostler", "NFileDescriptorStore") == "2"
    site(machine, settings='bind = "127.0.0.1:8000"\n')
    machine.run("systemctl", "reload", "ostler")
    wait_for("the end of generation 1", lambda: status_text(machine) == "serving generation 2, 2 workers")
    wait_for("one socket less", lambda: machine.show("ostler", "NFileDescriptorStore") == "1")
    assert ":8001" not in machine.shell("cat /proc/net/tcp | grep ' 0A ' | grep -i :1F41 || true").stdout


@check
def a_stop_leaves_nothing(machine):
    site(machine)
    start(machine)
    with machine.load(TCP) as load:
        machine.run("systemctl", "stop", "ostler")
    print(f"        what clients saw of the stop: {lost(load.outcome)}")
    assert machine.show("ostler", "ActiveState", "Result") == ["inactive", "success"]
    assert machine.shell("pgrep -l ostler || true").stdout == ""
    assert "refused" in "".join(load.outcome), load.outcome


@check
def the_socket_outlives_a_site_that_does_not_start(machine):
    site(machine, settings='bind = "systemd"\nworker = 2\n')
    machine.run("systemctl", "enable", "--quiet", "ostler.socket")
    start(machine, "ostler.socket")
    with machine.load(SOCKET) as load:
        wait_for("some starts", lambda: int(machine.show("ostler", "NRestarts")) >= 5)
        assert machine.show("ostler.socket", "ActiveState") == "active"
        site(machine, settings='bind = "systemd"\n')
        says(machine, "serving generation 1, 2 workers")
        machine.run("systemctl", "reload", "ostler")
        machine.run("systemctl", "restart", "ostler")
        killed = main_pid(machine)
        send(machine, "KILL", killed)
        wait_for("another master", lambda: main_pid(machine) not in (0, killed) and machine.show("ostler", "ActiveState") == "active")
    refused = [what for what in load.outcome if what.startswith("refused")]
    assert not refused and load.outcome["200 one"], load.outcome
    assert sum(lost(load.outcome).values()) <= 4, load.outcome
    # Without its socket the service does not start elsewhere.
    machine.run("systemctl", "stop", "ostler.socket", "ostler.service")
    machine.write("/etc/systemd/system/ostler.socket.d/test.conf", "[Socket]\nListenStream=/proc/no.sock\n")
    machine.run("systemctl", "daemon-reload")
    assert machine.run("systemctl", "start", "ostler", check=False).returncode != 0
    assert "ostler.socket" in machine.shell("systemctl show ostler --property=Requires").stdout


@check
def passed_sockets_have_names(machine):
    site(machine, settings='bind = "systemd:front"\n')
    machine.write("/etc/systemd/system/ostler-admin.socket",
                  "[Socket]\nListenStream=/run/admin.sock\nFileDescriptorName=admin\nService=ostler.service\n")
    drop_in(machine, "[Socket]\nFileDescriptorName=front\n", "ostler.socket")
    machine.run("systemctl", "start", "ostler.socket", "ostler-admin.socket")
    start(machine)
    with machine.load(SOCKET) as load:
        machine.run("systemctl", "reload", "ostler")
    assert not lost(load.outcome), load.outcome
    assert "no --bind names admin" in machine.journal("--unit=ostler"), machine.journal("--unit=ostler")
    site(machine, settings='bind = "systemd:back"\n')
    reload = machine.run("systemctl", "reload", "ostler", check=False)
    assert reload.returncode != 0 and "systemd has passed no socket called back, but " in status_text(machine), status_text(machine)
    machine.run("systemctl", "stop", "ostler.socket", "ostler-admin.socket", "ostler.service")
    machine.shell("rm /etc/systemd/system/ostler-admin.socket")


@check
def several_sites_are_instances(machine):
    for name in ("blog", "shop"):
        site(machine, text="both", settings='bind = "systemd"\n', file=f"/etc/ostler/{name}.toml")
        machine.run("systemctl", "start", f"ostler@{name}.socket", f"ostler@{name}")
        with machine.load(f"/run/ostler-{name}.sock") as load:
            pass
        assert "200 both" in load.outcome and not lost(load.outcome), load.outcome
    listed = machine.run("ostler", "status").stdout
    for name in ("blog", "shop"):
        assert re.search(rf"(?m)^{name} .*serving, 2 of 2 workers, on unix:/run/ostler-{name}.sock", listed), listed
        assert "generation 1" in machine.run("ostler", "status", "--name", name).stdout
    machine.run("systemctl", "stop", "ostler@blog.socket", "ostler@blog")
    assert "generation 1" in machine.run("ostler", "status").stdout


@check
def a_site_that_does_not_answer_is_started_anew(machine):
    drop_in(machine, "[Service]\nWatchdogSec=4\n")
    site(machine, settings="timeout = 0\nslow-request = 0\n")
    start(machine)
    pid, all_workers = main_pid(machine), workers(machine)
    send(machine, "STOP", all_workers[0])
    # As long as one answers, the others do not matter: systemd hears of it for twice the time after which it would act.
    heard = lambda: int(machine.show("ostler", "WatchdogTimestampMonotonic"))
    first = heard()
    wait_for("what the watchdog waits for", lambda: heard() > first + 8_000_000)
    assert (main_pid(machine), machine.show("ostler", "NRestarts")) == (pid, "0")
    send(machine, "STOP", *all_workers)
    wait_for("a restart", lambda: machine.show("ostler", "NRestarts") == "1", 30)
    assert "Watchdog timeout" in machine.journal("--unit=ostler")
    wait_for("another master", lambda: main_pid(machine) not in (0, pid))
    says(machine, "serving generation 1, 2 workers")
    send(machine, "STOP", main_pid(machine))
    wait_for("a restart", lambda: machine.show("ostler", "NRestarts") == "2", 30)


@check
def an_upgrade_keeps_the_main_process(machine):
    site(machine)
    start(machine)
    pid = main_pid(machine)
    with machine.load(TCP) as load:
        machine.shell("cp /usr/bin/ostler /usr/bin/ostler.new && mv /usr/bin/ostler.new /usr/bin/ostler")
        said = machine.run("ostler", "reload").stdout
        assert "a new version is installed: run `ostler upgrade`" in said, said
        assert machine.run("ostler", "upgrade").stdout.startswith("generation 3 serves")
        says(machine, "serving generation 3, 2 workers")
        assert machine.show("ostler", "MainPID", "ActiveState") == [str(pid), "active"]
        assert "a new version" not in machine.run("ostler", "reload").stdout
        # A package that is installed over the running one upgrades the site.
        machine.shell("dpkg --install /package/ostler_*.deb")
        says(machine, "serving generation 5, 2 workers")
        machine.run("systemctl", "restart", "ostler")
    assert not lost(load.outcome), load.outcome


@check
def an_upgrade_that_fails_is_over_for_systemd(machine):
    site(machine)
    start(machine)
    machine.shell("cp /usr/bin/ostler /var/tmp/ostler && cp /bin/true /usr/bin/ostler.new && mv /usr/bin/ostler.new /usr/bin/ostler")
    pid = main_pid(machine)
    machine.run("/var/tmp/ostler", "upgrade", check=False)
    assert status_text(machine).startswith("serving generation 1, 2 workers; upgrade failed: "), status_text(machine)
    assert machine.show("ostler", "ActiveState", "MainPID") == ["active", str(pid)]
    machine.shell("mv /var/tmp/ostler /usr/bin/ostler")


@check
def a_package_whose_program_does_not_run_says_so(machine):
    site(machine)
    start(machine)
    machine.shell("dpkg-deb --raw-extract /package/ostler_*.deb /var/tmp/package; printf '#!/bin/sh\\nexit 3\\n' >/var/tmp/package/usr/bin/ostler;"
                  "dpkg-deb -Znone --build /var/tmp/package /var/tmp/broken.deb")
    pid = main_pid(machine)
    with machine.load(TCP) as load:
        said = machine.run("dpkg", "--install", "/var/tmp/broken.deb").stderr
        assert "/usr/bin/ostler does not run" in said and "not every site could be upgraded" in said, said
        machine.shell("dpkg --install /package/ostler_*.deb")
        says(machine, "serving generation 2, 2 workers")
    assert not lost(load.outcome) and main_pid(machine) == pid, load.outcome


@check
def the_unit_is_confined(machine):
    machine.write("/srv/site/page.py", (HERE.parent.parent / "examples/flask_site.py").read_text())
    machine.write("/etc/ostler.toml", SETTINGS)
    start(machine)
    with machine.load(TCP) as load:
        pass
    assert not lost(load.outcome), load.outcome
    figure = machine.run("systemd-analyze", "security", "ostler.service", "--no-pager").stdout.strip().splitlines()[-1]
    print(f"        {figure}")
    assert float(re.search(r"[\d.]+", figure.rsplit(":", 1)[1]).group()) <= 1.5, figure


def entries(machine, *words):
    """Entries of the journal, as programs read them."""
    return [json.loads(line) for line in machine.journal("--output=json", "--all", "--unit=ostler", *words).splitlines()]


def invocation(machine):
    return "_SYSTEMD_INVOCATION_ID=" + machine.show("ostler", "InvocationID")


@check
def the_journal_is_quiet_and_finds_errors(machine):
    site(machine)
    start(machine)
    machine.run("systemctl", "reload", "ostler")
    machine.run("systemctl", "restart", "ostler")
    since = invocation(machine)
    assert machine.journal("-p", "warning", since) == ""
    site(machine, before="raise KeyError('on purpose')\n")
    machine.run("systemctl", "reload", "ostler", check=False)
    assert "on purpose" in machine.journal("-p", "err", since)


@check
def a_record_is_one_entry_with_fields(machine):
    raising = "def broken(environ):\n    raise RuntimeError('on purpose')\n"
    site(machine, before=raising, settings='access-logfile = "-"\nrequest-id = "on"\n')
    page = "/srv/site/page.py"
    machine.shell(f"sed -i \"s/^    start_response/    broken(environ) if environ['PATH_INFO'] == '\\/broken' else print('a print' + chr(10) + 'of two lines')\\n&/\" {page}")
    start(machine)
    since = invocation(machine)
    ask = "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1:8000'); c.request('GET', sys.argv[1]); print(c.getresponse().status)"
    assert machine.run("python3", "-c", ask, "/").stdout == "200\n"
    assert machine.run("python3", "-c", ask, "/broken").stdout == "500\n"
    found = lambda: entries(machine, "-p", "err", since)
    wait_for("the traceback", found)
    (raised,) = found()
    message = raised["MESSAGE"].splitlines()
    assert 'application raised request="GET /broken" request_id=' in message[0] and message[1].startswith("Traceback"), message
    assert message[-1] == "RuntimeError: on purpose", message
    expected = {"PRIORITY": "3", "SYSLOG_IDENTIFIER": "ostler", "OSTLER_PHRASE": "application raised", "OSTLER_GENERATION": "1",
                "OSTLER_REQUEST": "GET /broken", "_TRANSPORT": "journal", "_SYSTEMD_UNIT": "ostler.service"}
    assert {key: raised.get(key) for key in expected} == expected, raised
    assert raised["OSTLER_SLOT"] in "01" and raised["CODE_FILE"].endswith(".rs"), raised
    assert int(raised["_PID"]) in {int(entry["_PID"]) for entry in entries(machine, since, f"OSTLER_PROCESS=worker g1.{raised['OSTLER_SLOT']}")}
    wait_for("the access log", lambda: "GET /broken HTTP/1.1" in machine.journal(since, "_TRANSPORT=stdout", "-p", "6..6"))
    (printed,) = (entry for entry in entries(machine, since) if entry["MESSAGE"].startswith("a print"))
    expected = {"MESSAGE": "a print\nof two lines", "PRIORITY": "6", "OSTLER_GENERATION": "1", "_TRANSPORT": "journal"}
    assert {key: printed.get(key) for key in expected} == expected and len(printed["OSTLER_REQUEST_ID"]) == 32, printed


@check
def why_a_start_failed_is_an_error_in_the_journal(machine):
    site(machine, settings="worker = 2\n")
    machine.run("systemctl", "start", "ostler", check=False)
    wait_for("the reason", lambda: any("worker" in entry["MESSAGE"] for entry in entries(machine, "-p", "err", "_TRANSPORT=journal")))


@check
def a_journal_that_stands_still_holds_up_nobody(machine):
    broken = "import itertools\ncount = itertools.count()\n"
    site(machine, before=broken + APP.format(text="one", length=3).replace("    start_response", "    environ['wsgi.errors'].write('one more line\\n')\n    start_response"))
    machine.shell("sed -i '/^def app/,$ { /return/q }' /srv/site/page.py")
    start(machine)
    since = invocation(machine)
    journald = main_pid(machine, "systemd-journald")
    send(machine, "STOP", journald)
    try:
        with machine.load(TCP) as load:
            wait_for("answers", lambda: int(json.loads(machine.run("ostler", "status", "--json", check=False).stdout)["metrics"]['ostler_requests_total{code="2xx",method="GET"}']) > 3000)
    finally:
        send(machine, "CONT", journald)
    assert not lost(load.outcome), load.outcome
    wait_for("what was lost", lambda: entries(machine, since, "OSTLER_PHRASE=log lines lost"))


@check
def a_group_may_ask_for_status(machine):
    drop_in(machine, "[Service]\nSupplementaryGroups=adm\n")
    site(machine, settings='control-group = "adm"\n')
    assert machine.run("systemctl", "start", "ostler", check=False).returncode != 0
    assert "needs SystemCallFilter=@chown" in status_text(machine), status_text(machine)
    guide = (HERE.parent.parent / "docs/operating.md").read_text()
    drop_in(machine, re.search(r"(?s)```ini\n(.*?)```", guide).group(1))
    start(machine)
    ask = lambda group, word: machine.run("setpriv", "--reuid=nobody", f"--regid={group}", "--clear-groups", "ostler", word, check=False)
    assert "generation 1 serving" in ask("adm", "status").stdout, ask("adm", "status")
    assert ask("adm", "stop").returncode == 9 and "others may ask for status" in ask("adm", "stop").stderr
    assert ask("nogroup", "status").returncode == 14, ask("nogroup", "status")


@check
def a_log_shipper_reads_the_access_log_of_a_group(machine):
    drop_in(machine, "[Service]\nDynamicUser=no\nUser=site\nLogsDirectory=\nReadWritePaths=/var/log/site\nUMask=0027\n")
    machine.shell("useradd --system site; install -d -o site -g adm -m 2750 /var/log/site")
    site(machine, settings='access-logfile = "/var/log/site/access.log"\n')
    start(machine)
    with machine.load(TCP):
        machine.shell("mv /var/log/site/access.log /var/log/site/access.log.1")
        machine.run("ostler", "reopen")
    for name in ("access.log", "access.log.1"):
        assert machine.shell(f"stat -c '%U:%G %a' /var/log/site/{name}").stdout == "site:adm 640\n"
    read = machine.run("setpriv", "--reuid=nobody", "--regid=adm", "--clear-groups", "cat", "/var/log/site/access.log.1")
    assert "GET / HTTP/1.1" in read.stdout
    machine.run("systemctl", "stop", "ostler")
    machine.shell("userdel site; rm -r /var/log/site")

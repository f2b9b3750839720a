"""What it costs a hello request that its site is seen: paired with the same site without.

One worker each, side by side, which take short turns; the cost is the median of the rounds' own ratios of processor time, over all
processes of the server, the master among them. A page of metrics is asked for each second, as Prometheus does at its busiest.
"""

import contextlib
import statistics
import sys
import threading
import urllib.request

import install
import measure
import processes
from servers import TARGET
from workloads import WORKLOADS

ROUNDS, SECONDS = 15, 1
IDS = ("--request-id=response",)
LOG = ("--access-logformat", "json", "--access-logfile")


def main():
    if not install.program("wrk"):
        sys.exit("the bench needs wrk (Debian: apt install wrk)")
    (TARGET / "bench").mkdir(parents=True, exist_ok=True)
    install.ostler()
    metrics = f"127.0.0.1:{processes.free_port()}"
    all_metrics = ("--metrics", metrics, "--statsd-host", f"127.0.0.1:{processes.free_port()}")
    sites = {
        "nothing": (),
        "metrics, statsd": all_metrics,
        "request ids": IDS,
        "JSON access log": (*LOG, str(TARGET / "bench/seen.log")),
    }
    sites["all of it"] = (*(word.replace(metrics, f"127.0.0.1:{processes.free_port()}") for word in all_metrics), *IDS, *LOG, str(TARGET / "bench/all.log"))
    hello = WORKLOADS["hello"]
    used = {name: [] for name in sites}
    over = threading.Event()
    with contextlib.ExitStack() as stack:
        running = {name: stack.enter_context(measure.serving("ostler", hello, ("--python", sys.executable, *options))) for name, options in sites.items()}
        for server in running.values():
            measure.warm(server, hello)
        addresses = [options[options.index("--metrics") + 1] for options in sites.values() if "--metrics" in options]
        reader = threading.Thread(target=scrape, args=(addresses, over))
        reader.start()
        stack.callback(reader.join)
        stack.callback(over.set)
        for number in range(ROUNDS):
            for name, server in sorted(running.items(), reverse=number % 2):
                used[name].append(measure.turn(server, hello, SECONDS).total)
    for name, times in used.items():
        ratio = statistics.median(one / base for one, base in zip(times, used["nothing"]))
        print(f"{name:16} {statistics.median(times):6.2f} µs  × {ratio:.3f}")


def scrape(addresses, over):
    while not over.wait(1):
        for address in addresses:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://{address}/metrics", timeout=2).read()


if __name__ == "__main__":
    main()

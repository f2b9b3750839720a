"""Prints what was measured, for a terminal or for docs/comparison.md."""

import operator
import statistics

import drain
import elastic
import fairness
import growth
import instructions
import limit
import memory
import reload
import start
import tail
import threads
import tls
import warm
from servers import HELLO_ONLY
from workloads import WORKLOADS


NO_SERVERS = (*HELLO_ONLY, limit.NAME)
VALUES = {key: operator.itemgetter(key) for key in ("rate", "user", "system")}
VALUES["total"] = lambda each: each["user"] + each["system"]


def figures(rounds):
    """The medians of one server on one workload."""
    return {key: statistics.median(map(value, rounds)) for key, value in VALUES.items()}


def ratio(rounds, ours, key):
    """The median of the rounds' own ratios: within a round, other load of the machine affects both servers."""
    if not isinstance(ours, list):
        return "–"
    return f"{statistics.median(VALUES[key](its) / VALUES[key](our) for its, our in zip(rounds, ours)):.2f}"


def number(value):
    """Three digits, or all of them before the point."""
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def text(report):
    parts = [report["machine"], *(f"left out: {name}: {why}" for name, why in report["left_out"].items())]
    parts += [workload_text(WORKLOADS[name].title, results) for name, results in report["workloads"].items()]
    if shares := share_rows(report):
        header, rows = shares
        parts.append(grid(limit.TITLE, header, [[cell.strip("*") for cell in row] for row in rows]))
    if "tail" in report:
        parts.append(grid(tail.TITLE, *tail_rows(report)))
    if "threads" in report:
        parts.append(grid(threads.TITLE, *threads_rows(report)))
        parts.append(grid(threads.MIX_TITLE, *mix_rows(report)))
    if "fairness" in report:
        parts.append(grid(fairness.TITLE, *fairness_rows(report)))
    if "instructions" in report:
        parts.append(grid(instructions.TITLE, *instruction_rows(report)))
    if "memory" in report:
        parts.append(grid(memory.TITLE, *memory_rows(report)))
    if "reload" in report:
        parts.append(grid(reload.TITLE, *reload_rows(report)))
    if "drain" in report:
        parts.append(grid(drain.TITLE, *drain_rows(report)))
    if "start" in report:
        parts.append(grid(start.TITLE, *start_rows(report)))
    if "many" in report:
        parts.append(grid(start.MANY_TITLE, *many_rows(report)))
    if "elastic" in report:
        parts.append(grid(elastic.TITLE, *elastic.rows(report["elastic"])))
    if "warm" in report:
        parts.append(grid(warm.TITLE, *warm.rows(report["warm"])))
    if "tls" in report:
        parts.append(grid(tls.TITLE, *tls.rows(report["tls"])))
    parts += [grid(f"{growth.TITLE}, in µs: {title}", *rows) for title, rows in growth_rows(report)]
    return "\n\n".join(parts)


def workload_text(title, results):
    """One line a server; the ratios are to ostler: above 1 means more requests, or more processor time, than ostler."""
    ours = results.get("ostler")
    header = ["", "req/s", "× ostler", "user µs", "system µs", "CPU µs/req", "× ostler"]
    rows = []
    for name, rounds in results.items():
        if isinstance(rounds, str):
            rows.append([name, rounds])
            continue
        its = figures(rounds)
        rate, total = (ratio(rounds, ours, key) for key in ("rate", "total"))
        rows.append([name, number(its["rate"]), rate, number(its["user"]), number(its["system"]), number(its["total"]), total])
    return grid(title, header, rows)


def share_rows(report):
    """What each server takes beyond the limit: the medians of the rounds' own differences. The limit itself comes first."""
    chosen = {name: its for name, its in report["workloads"].items() if name in limit.SHARES and isinstance(its.get(limit.NAME), list)}
    servers = [name for name in next(iter(chosen.values()), {}) if name not in (limit.NAME, *HELLO_ONLY)]
    rows = []
    for name, results in chosen.items():
        least = results[limit.NAME]
        shares = {
            server: statistics.median(VALUES["total"](its) - VALUES["total"](bare) for its, bare in zip(results[server], least))
            for server in servers
            if isinstance(results[server], list)
        }
        best = min(shares.values(), default=None)
        shown = {server: f"**{number(share)}**" if share == best else number(share) for server, share in shares.items()}
        rows.append([WORKLOADS[name].title, number(figures(least)["total"]), *(shown.get(server, "–") for server in servers)])
    return (["", limit.NAME, *servers], rows) if rows else None


def tail_rows(report):
    header = ["", "requests", "median ms", "99.9 % ms", "longest ms"]
    rows = []
    for name, its in report["tail"].items():
        values = [its] if isinstance(its, str) else [f"{its['requests']:,}"]
        values += [] if isinstance(its, str) else [f"{its[key]:.1f}" for key in ("median", "99.9 %", "longest")]
        rows.append([name, *values])
    return header, rows


def threads_rows(report):
    """Requests per second of each server; the ratio is ours to the better of the others."""
    lines = report["threads"]["naps"]
    names = list(lines[0]["servers"])
    header = ["nap, threads, clients", "threads ÷ nap", *names, "× the better peer", "our median ms", "our CPU µs", *[f"{name} CPU µs" for name in names[1:]]]
    rows = []
    for line in lines:
        its = {name: value if isinstance(value, dict) else None for name, value in line["servers"].items()}
        ours, others = its.get("ostler"), [value["rate"] for name, value in its.items() if value and name != "ostler"]
        ratio = f"{ours['rate'] / max(others):.2f}" if ours and others else "–"
        rates = [number(value["rate"]) if value else "–" for value in its.values()]
        cpu = [number(value["total"]) if value else "–" for value in its.values()]
        median = f"{ours['median']:.1f}" if ours else "–"
        ideal = number(line["threads"] * 1000 / line["nap"])
        rows.append([f"{line['nap']} ms, {line['threads']}, {line['clients']}", ideal, *rates, ratio, median, *cpu])
    return header, rows


def mix_rows(report):
    header = ["", "requests", "median ms", "99 % ms"]
    rows = []
    for name, its in report["threads"]["mix"].items():
        values = [its] if isinstance(its, str) else [f"{its['requests']:,}", f"{its['median']:.1f}", f"{its['99 %']:.1f}"]
        rows.append([name, *values])
    return header, rows


def fairness_rows(report):
    header = ["", "requests", "median ms", "99.9 % ms", "longest ms", "reload: old code for s"]
    rows = []
    for name, its in report["fairness"].items():
        if isinstance(its, str):
            rows.append([name, its])
            continue
        times = [f"{its[key]:,.1f}" for key in ("median", "99.9 %", "longest")]
        taken = "–" if its["reload s"] is None else f"{its['reload s']:.2f}"
        rows.append([name, f"{its['requests']:,}", *times, taken])
    return header, rows


def instruction_rows(report):
    its = report["instructions"]
    return ["", "instructions"], [[name, value if isinstance(value, str) else f"{value:,.0f}"] for name, value in its.items()]


def memory_rows(report):
    """In MB; the ratio is to ostler."""
    ours = report["memory"].get("ostler")
    header = ["", "processes", "MB at first", "MB", "× ostler"]
    rows = []
    for name, its in report["memory"].items():
        if isinstance(its, str):
            rows.append([name, its])
            continue
        ratio = f"{its['after'] / ours['after']:.2f}" if isinstance(ours, dict) else "–"
        rows.append([name, str(its["processes"]), f"{its['before']:.1f}", f"{its['after']:.1f}", ratio])
    return header, rows


def reload_rows(report):
    """`ended` are the connections that a client wanted to keep."""
    header = ["", "answers", "median ms", "before: longest ms", "longest ms", "lost", "connections ended", "old code for s"]
    rows = []
    for name, its in report["reload"].items():
        if isinstance(its, str):
            rows.append([name, its])
            continue
        times = [f"{its[key]:,.1f}" for key in ("median", "longest before", "longest")]
        rows.append([name, f"{its['answers']:,}", *times, str(its["lost"]), str(its["ended"]), f"{its['seconds']:.2f}"])
    return header, rows


def start_rows(report):
    header = ["", "start", "reload", "roll-back"]
    rows = []
    for example, results in report["start"].items():
        for name, its in results.items():
            cells = [its] if isinstance(its, str) else [f"{its[key]:,.0f}" if key in its else "–" for key in header[1:]]
            rows.append([f"{example}, {name}", *cells])
    return header, rows


def many_rows(report):
    """The last column is 1.00 where memory grows in proportion."""
    one = report["many"][min(report["many"])]["MB"]
    rows = [
        [str(count), f"{its['MB']:.1f}", f"{its['wake-ups']:.1f}", f"{its['MB'] / count / one:.2f}"]
        for count, its in report["many"].items()
    ]
    return ["sites", "MB", "wake-ups a second", "× one, each"], rows


def drain_rows(report):
    """The last lines tell how ostler's figures grow: 1.00 is in proportion, 0.00 is not at all."""
    header = ["", "workers", "connections", "reload ms", "CPU ms", "sends", "p99 ms", "longest ms", "ended", "largest ÷ mean"]
    rows = []
    for name, its in report["drain"].items():
        for each in its if isinstance(its, list) else [its]:
            rows.append([name, each] if isinstance(each, str) else [name, *drain_cells(each)])
        if isinstance(its, list):
            slopes = [drain.exponent(its, key, name.removeprefix("by ")) for key in ("reload", "CPU", "sends", "longest")]
            reload_, used, sends, longest = ("–" if slope is None else f"{slope:.2f}" for slope in slopes)
            rows.append([f"{name}: exponent", "", "", reload_, used, sends, "", longest, "", ""])
    return header, rows


def drain_cells(its):
    spread = f"{its['spread after']:.2f}" if "spread after" in its else "–"
    times = [f"{its[key]:,.1f}" for key in ("p99", "longest")]
    sizes = [str(its["workers"]), f"{its['connections']:,}", f"{its['reload']:,.0f}", f"{its['CPU']:,.0f}"]
    return [*sizes, f"{its['sends']:,}" if "sends" in its else "–", *times, f"{its['ended']:,}", spread]


def growth_rows(report):
    """(title, (header, rows)) of each series; a dash where a server refused the size."""
    for key, results in report.get("growth", {}).items():
        series, rows = growth.SERIES[key], []
        for name, its in results.items():
            if isinstance(its, str) or not any(its[1:]):
                rows.append([name, its if isinstance(its, str) else "refused"])
                continue
            slope, steepest, at = growth.exponents(series.sizes, its)
            costs = [number(cost) if cost else "–" for cost in its]
            rows.append([name, *costs, f"{slope:.2f}", f"{steepest:.2f} from {size(at)}"])
        yield series.title, (["", *map(size, series.sizes), "exponent", "steepest"], rows)


def size(number):
    for unit, name in ((1 << 20, "M"), (1 << 10, "k")):
        if number >= unit and number % unit == 0:
            return f"{number // unit}{name}"
    return str(number)


def grid(title, header, rows):
    """Aligns the columns; a row of two cells under a longer header is a remark."""
    full = [row for row in [header, *rows] if len(row) == len(header)]
    widths = [max(len(row[column]) for row in full) for column in range(len(header))]
    widths[0] = max(len(row[0]) for row in [header, *rows])
    lines = [title]
    for row in [header, *rows]:
        cells = [f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:])] if len(row) == len(header) else row[1:]
        lines.append("  " + "  ".join([f"{row[0]:<{widths[0]}}", *cells]))
    return "\n".join(lines)


def markdown(report):
    """Servers as columns, so that a workload is one line; a dash where a server cannot do it."""
    parts = [f"Measured on {report['machine']}; {peers(report)}. Medians; one worker on one core, the load on another."]
    for title, key in (("CPU µs per request", "total"), ("Requests per second", "rate")):
        servers = list(next(iter(report["workloads"].values()), {}))
        rows = [[WORKLOADS[name].title, *cells(results, servers, key)] for name, results in report["workloads"].items()]
        if rows:
            parts.append(marked([title, *servers], rows))
    if shares := share_rows(report):
        header, rows = shares
        parts.append(marked([limit.TITLE[0].upper() + limit.TITLE[1:], *header[1:]], rows))
    if "tail" in report:
        header, rows = tail_rows(report)
        whole = [row for row in rows if len(row) == len(header)]
        parts.append(marked([tail.TITLE[0].upper() + tail.TITLE[1:], *header[1:]], whole))
    for key, title, rows_of in (
        ("fairness", fairness.TITLE, fairness_rows),
        ("memory", memory.TITLE, memory_rows),
        ("reload", reload.TITLE, reload_rows),
        ("drain", drain.TITLE, drain_rows),
        ("start", start.TITLE, start_rows),
        ("many", start.MANY_TITLE, many_rows),
    ):
        if key in report:
            header, rows = rows_of(report)
            parts.append(marked([title[0].upper() + title[1:], *header[1:]], [row for row in rows if len(row) == len(header)]))
    if "threads" in report:
        for title, rows_of in ((threads.TITLE, threads_rows), (threads.MIX_TITLE, mix_rows)):
            header, rows = rows_of(report)
            parts.append(marked([header[0] or title, *header[1:]], [row for row in rows if len(row) == len(header)]))
    for title, (header, rows) in growth_rows(report):
        parts.append(marked([title[0].upper() + title[1:] + ", µs", *header[1:]], [row for row in rows if len(row) == len(header)]))
    if "instructions" in report:
        header, rows = instruction_rows(report)
        parts.append(marked(["User-space instructions per hello request", "callgrind"], rows))
    return "\n\n".join(parts)


def cells(results, servers, key):
    """The best of the real servers in bold: floor and loop run no Python, and the limit is no server."""
    values = {name: figures(results[name])[key] for name in servers if isinstance(results.get(name), list)}
    real = [value for name, value in values.items() if name not in NO_SERVERS]
    best = (max if key == "rate" else min)(real, default=None)
    shown = {name: f"**{number(value)}**" if value == best and name not in NO_SERVERS else number(value) for name, value in values.items()}
    return [shown.get(name, "–") for name in servers]


def peers(report):
    named = {"gunicorn", "granian", "uwsgi", "bjoern", "fastwsgi", "waitress", "flask", "django"}
    return ", ".join(f"{name} {version}" for name, version in report["versions"].items() if name.lower() in named)


def marked(header, rows):
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

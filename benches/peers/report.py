"""From figures to tables, targets and JSON. Nothing here measures."""

from statistics import median

KIB = 1024
MIB = 1024 * KIB

CPU_TARGET = 1.10
REST_TARGET = 10 * MIB
# Decimal, as in the tables that the target was taken from.
POLL_TARGET = 14_000


def summary(values):
    return {"median": median(values), "min": min(values), "max": max(values)}


def summarise(names, rounds, cost, reference="nginx"):
    """Per proxy: every figure's median, min and max, and `cost` as a ratio to nginx's of the same round."""
    result = {}
    for name in names:
        own = [figures[name] for figures in rounds if name in figures]
        if not own:
            continue
        result[name] = {key: summary([figures[key] for figures in own]) for key in own[0]}
        ratios = [figures[name][cost] / figures[reference][cost]
                  for figures in rounds if name in figures and reference in figures]
        if ratios:
            result[name]["ratio"] = summary(ratios)
    return result


def markdown(results):
    """Every table of a run."""
    parts = [_small(results)]
    for mode, title in (("large", "1 MiB responses, 16 connections"),
                        ("open_close", "One connection per request, 64 at a time")):
        if results.get(mode):
            parts.append(_extra(title, results[mode], large=mode == "large"))
    return "\n\n".join(parts) + "\n"


def targets(results):
    """(what, figure, limit, passed) of lameduck; `passed` is None where there is no figure."""
    cpu = results.get("small", {}).get("lameduck", {}).get("ratio")
    memory = results.get("memory", {}).get("lameduck")
    rows = [
        ("CPU per request", cpu and cpu["median"], CPU_TARGET, "{:.3f} × nginx"),
        ("RSS at rest", memory and memory["rest"] / MIB, REST_TARGET / MIB, "{:.2f} MiB"),
        ("RSS per parked poll", memory and memory["per_poll"] / 1000, POLL_TARGET / 1000, "{:.2f} KB"),
    ]
    return [{
        "what": what,
        "figure": "not measured" if value is None else unit.format(value),
        "limit": unit.format(limit),
        "passed": None if value is None else value <= limit,
    } for what, value, limit, unit in rows]


def target_line(target):
    verdict = {True: "pass", False: "FAIL", None: "----"}[target["passed"]]
    return f"{verdict}  {target['what']:<20} {target['figure']:>14}   target ≤ {target['limit']}"


def _small(results):
    lines = ["| proxy | CPU µs per request | of which user | ratio to nginx | requests/s | p50, p99 ms "
             "| RSS at rest | RSS per parked poll |", "|" + " --- |" * 8]
    small, memory = results.get("small", {}), results.get("memory", {})
    for name in results["proxies"]:
        cpu, rss = small.get(name), memory.get(name)
        cells = [name]
        cells += [_range(cpu["cpu_us_per_request"]), f"{cpu['user_us_per_request']['median']:.1f}",
                  _range(cpu.get("ratio"), 2), f"{cpu['requests_per_second']['median']:,.0f}",
                  _latency(cpu)] if cpu else ["–"] * 5
        cells += [f"{rss['rest'] / MIB:.1f} MiB", f"{rss['per_poll'] / 1000:.1f} KB"] if rss else ["–"] * 2
        lines.append(_row(cells))
    return "\n".join(lines)


def _extra(title, figures, large):
    unit = "CPU s per GiB" if large else "CPU µs per request"
    lines = [f"{title}:", "", f"| proxy | {unit} | ratio to nginx | requests/s | p50, p99 ms |", "|" + " --- |" * 5]
    for name, cpu in figures.items():
        cost = cpu["cpu_s_per_gib" if large else "cpu_us_per_request"]
        lines.append(_row([name, _range(cost, 2 if large else 1), _range(cpu.get("ratio"), 2),
                           f"{cpu['requests_per_second']['median']:,.0f}", _latency(cpu)]))
    return "\n".join(lines)


def _latency(cpu):
    return ", ".join(f"{cpu[key]['median'] / 1000:.1f}" for key in ("p50_us", "p99_us"))


def _range(figure, digits=1):
    if figure is None:
        return "–"
    return "{median:.{d}f} ({min:.{d}f}–{max:.{d}f})".format(d=digits, **figure)


def _row(cells):
    return "| " + " | ".join(cells) + " |"

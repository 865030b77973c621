import json, statistics
from dataclasses import asdict
def line(case, name, s): return f"{case.name:18} {name:20} {s.rate/1e6:8.0f} MB/s {s.seconds:7.2f} s  cpu {s.machine_cpu/(s.bytes/1e9):.2f} s/GB  server {s.server_cpu/(s.bytes/1e9):.2f} rss {s.memory/2**20:.0f}"
def write(r, o): o.write_text(json.dumps({c:{p:[asdict(s) for s in l] for p,l in d.items()} for c,d in r.items()}))
def table(r):
    return "\n".join(f"{c:18} {p:20} {statistics.median(s.rate for s in l)/1e6:8.0f} MB/s cpu {statistics.median(s.machine_cpu for s in l)/(l[0].bytes/1e9):.2f}" for c,d in r.items() for p,l in d.items())

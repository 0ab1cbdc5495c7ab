"""Whether the evaluate service measures what a process measures itself.

    python benchmarks/served.py [--candidates 12] [--repeat 100] [--out benchmarks/served.json]

Starts `quantnb serve` on a port of this machine. Candidates of the example with random widths are measured in turn by this process and
by the service, float file included in each measurement; the figure is the ratio of the two medians of latency, over the candidates."""
import argparse, json, socket, subprocess, sys, tempfile, time, urllib.request
from pathlib import Path
import numpy as np
from quantnb.all import *
from quantnb.run.history import clean, environment
from quantnb.run.trial import device_evaluator

here = Path(__file__).parent

def free_port():
    with socket.create_server(('127.0.0.1', 0)) as s: return s.getsockname()[1]

def serving(port, folder, seconds=60):
    "A service that answers."
    p = subprocess.Popen([sys.executable, '-c', 'import sys; from quantnb.run.cli import main; sys.exit(main())', 'serve', '--port', str(port), '--work-dir', str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.time()+seconds
    while time.time()<end:
        try: urllib.request.urlopen(f'http://127.0.0.1:{port}/v1/health', timeout=2).close(); return p
        except OSError: time.sleep(.2)
    p.kill(); raise TimeoutError('the service does not answer')

if __name__=='__main__':
    a = argparse.ArgumentParser(description=__doc__.split('\n')[0]); a.add_argument('--candidates', type=int, default=12); a.add_argument('--repeat', type=int, default=100); a.add_argument('--out', type=Path, default=here/'served.json'); a = a.parse_args()
    yml = here.parent/'examples/fashion/quant.yml'; port = free_port()
    with tempfile.TemporaryDirectory() as d:
        p = serving(port, d)
        try:
            own = Task.from_yaml(yml, sets=['hardware=CPU']); far = Task.from_yaml(yml, sets=['hardware=CPU', f'remote_host=http://127.0.0.1:{port}'])
            e = open_engine(own); ex = Exporter(own, e); paths = [l.path for l in e.graph.quantizable]; rng = np.random.default_rng(0); rows = []
            ways = dict(process=device_evaluator(own, ex), service=device_evaluator(far, ex))
            for k in range(a.candidates):
                s = Strategy({q: Bits(int(rng.choice([2,4,8])), 8) for q in paths}); row = {}
                for name in (list(ways) if k%2 else list(ways)[::-1]): t = ways[name]({'candidate':s}, a.repeat); row[name] = dict(candidate=t['candidate'].median, float=t['float'].median, n=t['candidate'].n)
                row['ratio'] = row['service']['candidate']/row['process']['candidate']; row['relative'] = row['ratio']*row['process']['float']/row['service']['float']; rows.append(row)
                print(f"{k}: process {row['process']['candidate']:.3f} ms, service {row['service']['candidate']:.3f} ms, ratio {row['ratio']:.3f}; each against its own float {row['relative']:.3f}", flush=True)
        finally: p.terminate(); p.wait(30)
    res = dict(command='python benchmarks/served.py', environment=environment(), median=float(np.median([r['ratio'] for r in rows])), median_relative=float(np.median([r['relative'] for r in rows])), candidates=rows)
    print(f"median ratio {res['median']:.3f}, of the speed-ups {res['median_relative']:.3f}")
    a.out.write_text(json.dumps(clean(res), indent=1)+'\n')

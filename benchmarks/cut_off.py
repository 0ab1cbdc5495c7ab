"""A scheduler and two workers in network namespaces of their own (root only): one worker cut off for 30 s, the other killed, then the scheduler killed and started again. The history is compared with that of a search in one process. Results go to parallel.json."""
import os, signal, subprocess, sys, tempfile, threading, time
from pathlib import Path
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent/'tests')]
import cloudpickle
import parallel, simulated
from quantnb.run import executor

NS = dict(qnb0='10.77.0.1', qnb1='10.77.0.2', qnb2='10.77.0.3')
def sh(c, check=True): return subprocess.run(c, shell=True, check=check, capture_output=True, text=True)

def up():
    down(); sh('ip link add qnbbr type bridge && ip addr add 10.77.0.254/24 dev qnbbr && ip link set qnbbr up')
    for n,a in NS.items(): sh(f'ip netns add {n} && ip link add v{n} type veth peer name eth0 netns {n} && ip link set v{n} master qnbbr up && ip -n {n} addr add {a}/24 dev eth0 && ip -n {n} link set eth0 up && ip -n {n} link set lo up')
def down():
    for n in NS: sh(f'ip netns del {n}', False); sh(f'ip link del v{n}', False)
    sh('ip link del qnbbr', False)

def start(n, what): return subprocess.Popen(['ip','netns','exec',n,sys.executable,'-m','dask',*what], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
def scheduler(): return start('qnb0', ['scheduler','--host',NS['qnb0'],'--port','8786','--no-dashboard'])
def worker(n): return start(n, ['worker','tcp://10.77.0.1:8786','--nthreads','1','--host',NS[n],'--no-dashboard'])
def kill(p):
    try: os.killpg(p.pid, signal.SIGKILL)
    except OSError: pass
    p.wait()

cloudpickle.register_pickle_by_value(sys.modules['__main__'])
class Sleeping(executor.DaskExecutor):
    def payload(self): return cloudpickle.dumps(self.prepared.sens)
    def open(self): pass
    @staticmethod
    def trial(key, strategy, rivals=()):
        import pickle, time
        from quantnb.run import executor
        from quantnb.types import Outcome, Strategy
        s = Strategy.from_json(strategy); time.sleep(1.); d = float(sum(v*4.**-b.w for v,b in zip(pickle.loads(executor._sent[key]), s.values())))
        return Outcome(s, dict(accuracy=90-d, divergence=d, compress_ratio=85.), '', 1., 1).to_json(),False

class Trouble:
    "What happens after which episode."
    def __init__(self, ps): self.ps,self.did,self.at = ps,[],{}
    def after_trial(self, s, r):
        self.at[len(s.history)] = time.time()
        if len(s.history)==6:
            sh('ip link set vqnb1 down'); self.did.append('a worker cut off for 30 s'); threading.Timer(30, lambda: sh('ip link set vqnb1 up')).start()
        if len(s.history)==50:
            for p in sh("pgrep -f 'spawn_main' ", False).stdout.split():
                if sh(f'ip netns identify {p}', False).stdout.strip()=='qnb2': os.kill(int(p), signal.SIGKILL); self.did.append('a worker killed'); break
        if len(s.history)==60:
            def again():
                self.ps[0] = scheduler(); time.sleep(3)
                for k in (1,2): kill(self.ps[k]); self.ps[k] = worker(f'qnb{k}')
            kill(self.ps[0]); self.did.append('the scheduler killed, and started again after 3 s'); threading.Timer(3, again).start()

if __name__=='__main__':
    up(); ps = [scheduler()]; time.sleep(4); ps += [worker('qnb1'), worker('qnb2')]
    try:
        with tempfile.TemporaryDirectory() as d:
            trouble = Trouble(ps); n = dict(episodes=80, agent='MsQuantRL')
            simulated.search(d, 'here', in_flight=3, **n); t = time.time()
            s = simulated.search(d, 'there', executor=lambda p: Sleeping(p), callbacks=[trouble], **n, **{'parallel_search':True, 'cluster.address':'tcp://10.77.0.1:8786', 'cluster.workers':2})
            parallel.keep('cut off', dict(parallel.load(), did=trouble.did, episodes=len(s.history), seconds=round(time.time()-t, 1), longest_gap_seconds=round(max(b-a for a,b in zip([*trouble.at.values()], [*trouble.at.values()][1:])), 1), same_history=simulated.rows(d, 'here')==simulated.rows(d, 'there'), stop_reason=s.history.stop_reason))
    finally:
        for p in ps: kill(p)
        down()

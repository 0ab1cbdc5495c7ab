"""The `quantnb …` commands of a notebook under test, without an import of MindSpore for each: all but the first are forked from a process that has imported everything and run nothing.

What is forked is what the command does after its imports: `quantnb.run.cli.main` with the words, folder, environment and streams of the line that a notebook gave to its shell. The first line of a notebook starts
the installed command; test_cli.py starts it too, and tests what is imported when."""
import contextlib, io, json, os, socket, subprocess, sys, traceback
from pathlib import Path

SHIM = '''#!{python} -SEI
import os, socket, sys
try: os.mkdir({first!r})
except FileExistsError: pass
else: os.execv({real!r}, [{real!r}, *sys.argv[1:]])
import json
with socket.socket(socket.AF_UNIX) as s:
    s.connect({address!r}); socket.send_fds(s, [json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()+b'\\n'], [0,1,2])
    code = s.recv(1)
sys.exit(code[0] if code else 'the command died')
'''

def _answer(connection):
    "Be the command that is asked for."
    text,fds,_,_ = socket.recv_fds(connection, 1<<20, 3)
    while not text.endswith(b'\n'): text += connection.recv(1<<20)
    words,folder,env = json.loads(text)
    for k,fd in enumerate(fds): os.dup2(fd, k); os.close(fd)
    os.environ.clear(); os.environ.update(env); os.chdir(folder); sys.argv = ['quantnb', *words]
    sys.path[:] = [p for p in sys.path if p and Path(p)!=Path(__file__).parent]
    sys.stdout,sys.stderr = (io.TextIOWrapper(open(k, 'wb', 0, closefd=False), 'utf-8', write_through=True) for k in (1,2))
    from quantnb.run.cli import main
    connection.send(bytes([main() or 0]))

def _serve(listening, parent):
    "A process for each command, as long as the notebook runs."
    listening.settimeout(.5)
    while os.getppid()==parent:
        with contextlib.suppress(ChildProcessError): os.waitpid(-1, os.WNOHANG)
        try: connection,_ = listening.accept()
        except TimeoutError: continue
        if os.fork()==0:
            try: connection.setblocking(True); _answer(connection)
            except BaseException: traceback.print_exc(); os._exit(1) # the shim ends with an error, as nothing was sent
            os._exit(0)
        connection.close()
    os._exit(0)

class Shell:
    "`subprocess` for `Terminal`: the same, but `quantnb` on the path is the shim."
    PIPE,STDOUT = subprocess.PIPE,subprocess.STDOUT
    def __init__(self, folder): self.folder = folder
    def run(self, command, env, **kwargs): return subprocess.run(command, env={**env, 'PATH':f'{self.folder}{os.pathsep}{env["PATH"]}'}, **kwargs)

def forked(
    folder:Path, # Empty; for the shim
):
    "From now on `Terminal` of this process runs commands so. To be called before anything has run."
    from quantnb.run import terminal
    address = str(folder/'socket'); listening = socket.socket(socket.AF_UNIX); listening.bind(address); listening.listen()
    parent = os.getpid()
    if os.fork()==0: _serve(listening, parent)
    listening.close(); python = sys.executable; shim = folder/'quantnb'
    shim.write_text(SHIM.format(python=python, first=str(folder/'first'), real=str(Path(python).with_name('quantnb')), address=address)); shim.chmod(0o755)
    terminal.subprocess = Shell(folder)

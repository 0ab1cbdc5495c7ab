"What every test needs: MindSpore without its log, and its compiled graphs given back after each file."
import gc, os, sys
import pytest
os.environ.setdefault('GLOG_v', '4')
for k in ('OMP_NUM_THREADS','OPENBLAS_NUM_THREADS'): os.environ.setdefault(k, '1') # two workers share the cores; threads that spin for each other take them from the other worker

LONG = ('Test_examples_caption_search','Test_nbs_tutorials_','test_cli.py','test_caption.py','test_onnx_ops.py','test_mindir.py','test_batch.py','test_service.py','browser/') # what takes minutes starts first
LATE = *(f'Test_nbs_{o}_' for o in 'howto explain run quant deploy search panels'.split()),'test_notebooks.py' # then notebooks of seconds, then those of less: a worker holds two scopes more than the one it runs, so only short ones let both workers end together
def _turn(nodeid): return next((k for k,o in enumerate((*LONG,'',*LATE)) if o and o in nodeid), len(LONG))
def pytest_collection_modifyitems(items): items.sort(key=lambda i: _turn(i.nodeid))

def pytest_collection_finish(session): gc.collect(); gc.freeze() # MindSpore collects before each compilation, and looks at 300,000 objects of imported modules for it: .14 s

@pytest.fixture(autouse=True, scope='module')
def free():
    environ,path = dict(os.environ),sys.path[:] # a yml's `pkg_path` is put on both
    if 'mindspore' in sys.modules: sys.modules['mindspore'].set_context(mode=1) # PyNative, as in a fresh process; a file that needs graph mode says so
    yield
    os.environ.clear(); os.environ.update(environ); sys.path[:] = path
    gc.collect()

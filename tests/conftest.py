"What every test needs: MindSpore without its log, and its compiled graphs given back after each file."
import gc, os, sys
import pytest
os.environ.setdefault('GLOG_v', '4')
for k in ('OMP_NUM_THREADS','OPENBLAS_NUM_THREADS'): os.environ.setdefault(k, '1') # two workers share the cores; threads that spin for each other take them from the other worker

LONG = ('Test_examples_caption_search','Test_nbs_tutorials_') # notebooks of minutes: before those of seconds, so that both workers end together; files go by their number of tests, whatever is said here
def pytest_collection_modifyitems(items): items.sort(key=lambda i: not any(o in i.nodeid for o in LONG))

@pytest.fixture(autouse=True, scope='module')
def free():
    environ,path = dict(os.environ),sys.path[:] # a yml's `pkg_path` is put on both
    if 'mindspore' in sys.modules: sys.modules['mindspore'].set_context(mode=1) # PyNative, as in a fresh process; a file that needs graph mode says so
    yield
    os.environ.clear(); os.environ.update(environ); sys.path[:] = path
    gc.collect()

"What every test needs: MindSpore without its log, and its compiled graphs given back after each file."
import gc, os, sys
import pytest
os.environ.setdefault('GLOG_v', '4')

@pytest.fixture(autouse=True, scope='module')
def free():
    environ,path = dict(os.environ),sys.path[:] # a yml's `pkg_path` is put on both
    if 'mindspore' in sys.modules: sys.modules['mindspore'].set_context(mode=1) # PyNative, as in a fresh process; a file that needs graph mode says so
    yield
    os.environ.clear(); os.environ.update(environ); sys.path[:] = path
    gc.collect()

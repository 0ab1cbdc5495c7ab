"What every test needs: MindSpore without its log, and its compiled graphs given back after each file."
import gc, os, sys
import pytest
os.environ.setdefault('GLOG_v', '4')

def pytest_collection_modifyitems(items):
    "A file stays on one worker, which compiles its networks once; a notebook is a process of its own and goes to the worker that is free."
    for i in items:
        if i.path.name!='test_notebooks.py': i.add_marker(pytest.mark.xdist_group(i.path.name))

@pytest.fixture(autouse=True, scope='module')
def free():
    environ,path = dict(os.environ),sys.path[:] # a yml's `pkg_path` is put on both
    if 'mindspore' in sys.modules: sys.modules['mindspore'].set_context(mode=1) # PyNative, as in a fresh process; a file that needs graph mode says so
    yield
    os.environ.clear(); os.environ.update(environ); sys.path[:] = path
    gc.collect()

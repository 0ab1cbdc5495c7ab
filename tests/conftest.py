"What every test needs: MindSpore without its log, and its compiled graphs given back after each file."
import gc, os
import pytest
os.environ.setdefault('GLOG_v', '4')

@pytest.fixture(autouse=True, scope='module')
def free():
    yield
    gc.collect()

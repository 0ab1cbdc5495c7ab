"Finds the best bit-width for every layer of a trained MindSpore network."
import os
os.environ.setdefault('GLOG_v', '4') # MindSpore reads it once, when it is imported; what fails arrives as an exception
if 'NUMBA_CACHE_DIR' not in os.environ: # compiled kernels beside the modules would stay behind when pip uninstalls, and hide an editable installation
    try: os.makedirs(d := os.path.expanduser('~/.cache/quantnb/numba'), exist_ok=True); os.environ['NUMBA_CACHE_DIR'] = d
    except OSError: pass # numba looks for a place itself
if 'MS_OM_PATH' not in os.environ: # where MindSpore writes what it knows of a graph that does not compile; otherwise into rank_0 in the current folder
    try: os.makedirs(d := os.path.expanduser('~/.cache/quantnb/mindspore'), exist_ok=True); os.environ['MS_OM_PATH'] = d
    except OSError: pass
__version__ = '0.1.0'

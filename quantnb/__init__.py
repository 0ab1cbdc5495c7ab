"Finds the best bit-width for every layer of a trained MindSpore network."
import os
os.environ.setdefault('GLOG_v', '3') # MindSpore reads it once, when it is imported: errors only
__version__ = '0.1.0'

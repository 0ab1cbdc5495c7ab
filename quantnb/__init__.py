"Finds the best bit-width for every layer of a trained MindSpore network."
import os
os.environ.setdefault('GLOG_v', '4') # MindSpore reads it once, when it is imported; what fails arrives as an exception
__version__ = '0.1.0'

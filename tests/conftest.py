"What every test needs: one thread less noise, and MindSpore's graph mode."
import os
os.environ.setdefault('GLOG_v', '4')

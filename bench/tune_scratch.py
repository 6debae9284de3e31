import sys, json, time, os
sys.path[:0]=[".","bench"]
import torch
from gpu.measure import *
from pi0_ros.engine.tuning import *
from pi0_ros.engine.weights import prepare
from pi0_ros.engine.schedule import make_schedule
from pi0_ros.engine.fused import Tuning
run=Run(torch.device("cuda"),False,300,True)
m=random_model("pi0",run); w=prepare(m); s=make_schedule(m,10)
t=time.time()
say=lambda x:print(f"{time.time()-t:.0f}s",x,flush=True)
print(tune(m.config,w,s,544,Tuning(pdl=False),tell=say,groups=("pdl","attention","gather","gate_up","down","qkv")))

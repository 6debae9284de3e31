import sys, time, os
sys.path[:0]=[".","bench"]
import torch
from gpu.measure import *
import pi0_ros.engine.tuning as T
from pi0_ros.engine.weights import prepare
from pi0_ros.engine.schedule import make_schedule
from pi0_ros.engine.fused import Tuning, FusedNetwork
from pi0_ros.engine import Engine
from gpu import ladder, correctness
from dataclasses import replace
t0=time.time()
say=lambda *x:print(f"{time.time()-t0:.0f}s",*x,flush=True)
run=Run(torch.device("cuda"),False,300,True)
m=random_model("pi0",run); s=make_schedule(m,10)
T.SECONDS=0.0
e=Engine(m)
say("tuned")
host,noise=observation(m.config,2,20,0),noise_for(m.config,0)
p=ladder.make_program(e,host,noise.cuda())
tm=time_calls(p.graph.replay,run.device,50)
say("chunk pi0 2 views",tm, ladder.stages(p,run))
w=e.network.weights
for lv in (1,4,2):
    say("pdl",lv,T.time_step(m.config,w,s,544,Tuning(pdl=lv))*1e3)
    if lv==1:
        for k in ladder.kernels(p)[:24]: print('   ',k['count'],round(k['us']),round(k['us']/k['count'],2),k['kernel'][:60],flush=True)

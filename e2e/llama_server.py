"""Runs llama.cpp's own HTTP server, which is part of the xllamacpp wheel, in the foreground.

    llama_server.py MODEL.gguf --alias NAME --port PORT [--parallel N] [--ctx N] [--embeddings] [--template FILE] [--verbose]
"""

import argparse
import threading

import xllamacpp

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("--alias", required=True)
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--parallel", type=int, default=1)
parser.add_argument("--ctx", type=int, default=4096)
parser.add_argument("--embeddings", action="store_true")
parser.add_argument("--template", help="a file with the chat template, instead of the model's own")
parser.add_argument("--verbose", action="store_true", help="log also which requests wait for a slot")
args = parser.parse_args()

params = xllamacpp.CommonParams()
params.model.path = args.model
params.model_alias = {args.alias}
params.hostnames = ["127.0.0.1"]
params.port = args.port
params.n_parallel = args.parallel
params.n_ctx = args.ctx
params.embedding = args.embeddings
if args.template:
    with open(args.template) as file:
        params.chat_template = file.read()
if args.verbose:
    params.verbosity = 5
params.cpuparams.n_threads = 1  # waiting threads spin, which is slow on few or busy cores
params.fit_params = False

server = xllamacpp.Server(params)  # returns when it listens and the model is loaded
print("listening on", server.listening_address, flush=True)
threading.Event().wait()

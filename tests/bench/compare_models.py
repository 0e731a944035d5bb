"""Our networks against PyTorch eager: same input, same weights, same machine, turn by turn.

    python3 compare_models.py BUILD/bin/models_bench [--size 128] [--threads 2] [--rounds 3]

Needs torch and numpy. Prints the lines of models_bench, PyTorch's own and the ratios, each with
the accuracy of that very run. Rounds alternate between the two, and the best median of each counts,
so that other work on the machine hits both alike. On a busy machine trust the ratio of CPU time with
--threads 1 alone.
"""
import argparse
import json
import os
import statistics
import struct
import subprocess
import tempfile
import time

import numpy
import torch
from torch import nn
from torch.nn import functional as F

WEIGHTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "data", "weights")
FILES = {"rrdb": "RealESRGAN_x4plus.safetensors", "srvgg16": "realesr-animevideov3.safetensors",
         "srvgg32": "realesr-general-x4v3.safetensors"}


def read_safetensors(path):
    with open(path, "rb") as file:
        data = file.read()
    (length,) = struct.unpack("<Q", data[:8])
    types = {"F32": numpy.float32, "F16": numpy.float16}
    tensors = {}
    for name, entry in json.loads(data[8:8 + length]).items():
        if name == "__metadata__":
            continue
        begin, end = (8 + length + at for at in entry["data_offsets"])
        array = numpy.frombuffer(data[begin:end], types[entry["dtype"]]).reshape(entry["shape"])
        tensors[name] = torch.from_numpy(array.astype(numpy.float32))
    return tensors


def conv(inputs, outputs):
    return nn.Conv2d(inputs, outputs, 3, 1, 1)


class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        for c in range(5):
            setattr(self, f"conv{c + 1}", conv(64 + 32 * c, 64 if c == 4 else 32))

    def forward(self, x):
        parts = [x]
        for c in range(1, 5):
            layer = getattr(self, f"conv{c}")
            parts.append(F.leaky_relu(layer(torch.cat(parts, 1)), 0.2, inplace=True))
        return x + 0.2 * self.conv5(torch.cat(parts, 1))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = Dense(), Dense(), Dense()

    def forward(self, x):
        return x + 0.2 * self.rdb3(self.rdb2(self.rdb1(x)))


class RRDBNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_first, self.conv_body = conv(3, 64), conv(64, 64)
        self.body = nn.Sequential(*(Block() for _ in range(23)))
        self.conv_up1, self.conv_up2, self.conv_hr = conv(64, 64), conv(64, 64), conv(64, 64)
        self.conv_last = conv(64, 3)

    def forward(self, x):
        def act(y):
            return F.leaky_relu(y, 0.2, inplace=True)

        def doubled(y):
            return F.interpolate(y, scale_factor=2, mode="nearest")

        y = self.conv_first(x)
        y = y + self.conv_body(self.body(y))
        y = act(self.conv_up1(doubled(y)))
        y = act(self.conv_up2(doubled(y)))
        return self.conv_last(act(self.conv_hr(y)))


class SRVGG(nn.Module):
    def __init__(self, convs):
        super().__init__()
        layers = [conv(3, 64), nn.PReLU(64)]
        for _ in range(convs):
            layers += [conv(64, 64), nn.PReLU(64)]
        self.body = nn.Sequential(*layers, conv(64, 48))

    def forward(self, x):
        return F.pixel_shuffle(self.body(x), 4) + F.interpolate(x, scale_factor=4, mode="nearest")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bench")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--net", choices=FILES, nargs="*", default=list(FILES))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    for name in args.net:
        net = RRDBNet() if name == "rrdb" else SRVGG(int(name[5:]))
        net.load_state_dict(read_safetensors(os.path.join(WEIGHTS, FILES[name])))
        net.eval()
        best = {}
        for _ in range(args.rounds):
            with tempfile.TemporaryDirectory() as folder:
                dump = os.path.join(folder, "dump.safetensors")
                command = [args.bench, "--net", name, "--size", str(args.size), "--threads",
                           str(args.threads), "--runs", str(args.runs), "--weights", WEIGHTS,
                           "--dump", dump]
                text = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
                tensors = read_safetensors(dump)
            lines = [json.loads(line) for line in text.decode().splitlines()]
            with torch.inference_mode():
                walls, cpus = [], []
                for i in range(args.runs + 1):
                    start, busy = time.perf_counter(), time.process_time()
                    y = net(tensors["x"])
                    if i:
                        walls.append(1e3 * (time.perf_counter() - start))
                        cpus.append(1e3 * (time.process_time() - busy))
            lines.append({"what": name, "shape": list(tensors["x"].shape), "device": "cpu",
                          "threads": args.threads, "dtype": "fp32 PyTorch eager",
                          "milliseconds": statistics.median(walls),
                          "cpu_milliseconds": statistics.median(cpus),
                          "torch": torch.__version__,
                          "largest_difference": (y - tensors["y"]).abs().max().item()})
            for line in lines:
                print(json.dumps(line), flush=True)
                key = line["dtype"].split()[0] + ("_eager" if "torch" in line else "")
                for clock in ("milliseconds", "cpu_milliseconds"):
                    best[key, clock] = min(best.get((key, clock), 1e30), line[clock])
        ratios = {"what": name + ": times as fast"}
        for clock in ("milliseconds", "cpu_milliseconds"):
            fp32 = best["fp32", clock]
            ratios[f"fp32 over eager, by {clock}"] = best["fp32_eager", clock] / fp32
            ratios[f"bf16 over fp32, by {clock}"] = fp32 / best["bf16", clock]
        print(json.dumps(ratios), flush=True)


if __name__ == "__main__":
    main()

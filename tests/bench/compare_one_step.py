"""Our one-step networks against diffusers: same weights, same input, same machine, turn by turn.

    python3 compare_one_step.py BASE --bench BUILD/bin/one_step_bench [--size 512] [--runs 3]
                                [--threads 2] [--rounds 2] [--ours fp32,bf16] [--theirs fp32,bf16]

Needs torch 2.12.1, diffusers 0.42.1, safetensors, Pillow, numpy. BASE is a family in diffusers'
layout (unet/, vae/, scheduler/), which `sdd-train init --config sd2-1-base` makes with random
weights. A pass is what one picture costs once the prompt is known: encode (mean latent), UNet at
999, the scheduler's step, decode; diffusers runs eagerly, everything in the turn's precision.

Both sides are given `size` x `size` pixels and an embedding by --input FILE.safetensors, float32:
    image [1,3,S,S] in [-1,1]     ctx [1,77,C], C from unet/config.json
Each turn is a process of its own. Ours is called
    one_step_bench --base BASE --input FILE --size S --precision fp32|bf16 --runs N --threads T
                   [--dump FILE.safetensors]
and prints one JSON line (other keys are free):
    {"encode_s", "unet_s", "decode_s", "total_s", "cpu_s", "peak_mib"[, "pass_peak_mib"]}
Seconds are medians over N passes after one warm-up: wall time of the parts and of a whole pass, and
the processor time of a whole pass over all threads. peak_mib is ru_maxrss, loading included;
pass_peak_mib the same from the end of loading on (the mark is reset through /proc/self/clear_refs).
--dump writes z, pred, z_hr [1,4,S/8,S/8] and sr [1,3,S,S] in [-1,1], clamped, float32.

Rounds go through all sides in turn and each side's best total counts, so that other work on the
machine hits all alike. Printed: seconds and memory of each side, how many times as fast ours is
(wall and processor time), and how far each lies from diffusers in float32: relative RMS
of z, pred and z_hr, PSNR of sr. The same as one JSON object with --json.
"""
import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

PARTS = ["encode_s", "unet_s", "decode_s"]
KEYS = PARTS + ["total_s", "cpu_s", "peak_mib"]
DUMPED = ["z", "pred", "z_hr", "sr"]


def high_mark():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def diffusers_turn(args):
    """diffusers' turn: prints its line."""
    import diffusers
    import safetensors.torch
    import torch
    torch.set_num_threads(args.threads)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[args.turn]
    part = lambda kind, folder: kind.from_pretrained(args.base, subfolder=folder,
                                                     torch_dtype=dtype).eval()
    unet = part(diffusers.UNet2DConditionModel, "unet")
    vae = part(diffusers.AutoencoderKL, "vae")
    scheduler = diffusers.DDPMScheduler.from_pretrained(args.base, subfolder="scheduler")
    scheduler.set_timesteps(timesteps=[999])
    given = {k: v.to(dtype) for k, v in safetensors.torch.load_file(args.input).items()}
    factor = vae.config.scaling_factor
    step = torch.tensor([999])
    load_peak = high_mark()
    pathlib.Path("/proc/self/clear_refs").write_text("5")

    lines = []
    for _ in range(args.runs + 1):
        times, cpu = [time.perf_counter()], time.process_time()
        with torch.no_grad():
            z = vae.encode(given["image"]).latent_dist.mean * factor
            times.append(time.perf_counter())
            pred = unet(z, step, given["ctx"]).sample
            z_hr = scheduler.step(pred, 999, z).prev_sample
            times.append(time.perf_counter())
            sr = vae.decode(z_hr / factor).sample.clamp(-1, 1)
            times.append(time.perf_counter())
        lines.append([b - a for a, b in zip(times, times[1:])] +
                     [times[-1] - times[0], time.process_time() - cpu])
    values = [statistics.median(column) for column in zip(*lines[1:])]
    pass_peak = high_mark()
    if args.dump:
        safetensors.torch.save_file({k: v.float().contiguous() for k, v in
                                     zip(DUMPED, (z, pred, z_hr, sr))}, args.dump)
    print(json.dumps({**dict(zip(KEYS, values)), "peak_mib": max(load_peak, pass_peak),
                      "pass_peak_mib": pass_peak}))


def turn(command, threads):
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
    output = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, check=True,
                            env=environment)
    line = json.loads(output.stdout.splitlines()[-1])
    missing = [key for key in KEYS if key not in line]
    if missing:
        sys.exit(f"{command[0]}: its line lacks {', '.join(missing)}")
    return line


def write_input(base, size, path):
    """A picture with soft and hard edges, and an embedding of unit variance."""
    import numpy as np
    import safetensors.numpy
    from PIL import Image
    c, y, x = np.meshgrid(range(3), range(size // 8), range(size // 8), indexing="ij")
    levels = ((37 * c + 11 * y + 7 * x + 3 * x * y) % 64 * 255 // 63).astype(np.uint8)
    picture = Image.fromarray(levels.transpose(1, 2, 0).copy()).resize((size, size), Image.BICUBIC)
    width = json.loads((base / "unet/config.json").read_text())["cross_attention_dim"]
    image = np.asarray(picture, np.float32).transpose(2, 0, 1)[None] / 255 * 2 - 1
    context = np.random.Generator(np.random.Philox(7)).standard_normal((1, 77, width), np.float32)
    safetensors.numpy.save_file({"image": np.ascontiguousarray(image), "ctx": context}, path)


def distance(path, reference):
    """{z, pred, z_hr: relative RMS, sr: PSNR in dB} of a dump against the reference's."""
    import numpy as np
    import safetensors.numpy
    ours, theirs = (safetensors.numpy.load_file(p) for p in (path, reference))
    result = {}
    for name in DUMPED:
        a, b = ours[name].astype(np.float64), theirs[name].astype(np.float64)
        if a.shape != b.shape or not np.isfinite(a).all():
            sys.exit(f"{path}: {name} of shape {a.shape} against {b.shape}, or not finite")
        error = np.sqrt(np.mean((a - b) ** 2))
        if name == "sr":  # range 2
            result[name] = 20 * np.log10(2 / max(error, 1e-12))
        else:
            result[name] = error / np.sqrt(np.mean(b ** 2))
    return {k: float(v) for k, v in result.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", type=pathlib.Path)
    parser.add_argument("--bench", type=pathlib.Path, help="left out: diffusers alone")
    parser.add_argument("--size", type=int, default=512, help="of the output, a multiple of 8")
    parser.add_argument("--runs", type=int, default=3, help="passes of a turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--ours", default="fp32,bf16", help="precisions of our turns")
    parser.add_argument("--theirs", default="fp32,bf16", help="of diffusers' (fp32 is added)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--turn", choices=["fp32", "bf16"], help=argparse.SUPPRESS)
    parser.add_argument("--input", help=argparse.SUPPRESS)
    parser.add_argument("--dump", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.turn:
        diffusers_turn(args)
        return

    sides = [("diffusers", p) for p in ["fp32", "bf16"] if p == "fp32" or p in args.theirs]
    if args.bench:
        sides += [("ours", p) for p in args.ours.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write_input(args.base, args.size, folder / "input.safetensors")
        dump = lambda side: folder / f"{side[0]}_{side[1]}.safetensors"
        lines = {side: [] for side in sides}
        for _ in range(args.rounds):
            for side in sides:
                who, precision = side
                command = ([args.bench, "--base", args.base, "--size", args.size,
                            "--precision", precision] if who == "ours" else
                           [sys.executable, __file__, args.base, "--turn", precision])
                command += ["--input", folder / "input.safetensors", "--runs", args.runs,
                            "--threads", args.threads, "--dump", dump(side)]
                lines[side].append(turn(command, args.threads))
        distances = {side: distance(dump(side), dump(sides[0])) for side in sides}
    best = {side: min(lines[side], key=lambda line: line["total_s"]) for side in sides}
    ratios = {(ours, theirs): {k: best[theirs][k] / best[ours][k] for k in KEYS}
              for ours in sides if ours[0] == "ours" for theirs in sides if theirs[0] != "ours"}

    if args.json:
        named = lambda d: {" ".join(k): v for k, v in d.items()}
        print(json.dumps({"size": args.size, "threads": args.threads, "best": named(best),
                          "from_diffusers_fp32": named(distances),
                          "theirs_over_ours": {f"{' '.join(a)} : {' '.join(b)}": v
                                               for (a, b), v in ratios.items()}}))
        return
    print(f"{args.size} x {args.size}, {args.threads} threads, best of {args.rounds} rounds of "
          f"{args.runs} passes")
    print(f"{'':16}{'encode s':>9}{'unet s':>9}{'decode s':>9}{'total s':>9}{'cpu s':>9}"
          f"{'peak MiB':>10}{'passes MiB':>11}{'z':>9}{'pred':>9}{'z_hr':>9}{'sr dB':>7}")
    for side in sides:
        b, d = best[side], distances[side]
        print(f"{' '.join(side):16}" + "".join(f"{b[k]:9.3f}" for k in KEYS[:-1]) +
              f"{b['peak_mib']:10.0f}{b.get('pass_peak_mib', float('nan')):11.0f}" +
              "".join(f"{d[k]:9.1e}" for k in DUMPED[:-1]) + f"{d['sr']:7.1f}")
    for (ours, theirs), r in ratios.items():
        print(f"{' '.join(ours)} against {' '.join(theirs)}: {r['total_s']:.2f} times as fast "
              f"(encode {r['encode_s']:.2f}, unet {r['unet_s']:.2f}, decode {r['decode_s']:.2f}), "
              f"processor time {r['cpu_s']:.2f} times less, memory {r['peak_mib']:.2f}")


main()

#!/usr/bin/env python3
"""Accuracy of ultrasr-register on simulated series with known truth: clean scenes and every fault,
the default pipeline beside the paper's plain one (keypoints and a homography) and RealSR's design
(affine map, one gain and offset). Writes a Markdown table.

  tests/bench/study_registration.py --photos FOLDER --out FOLDER [--bin build/release/bin]
                                    [--scenes 20] [--fault-scenes 24] [--seed 9000]

Half of the scenes show photographs of --photos, half generated dead leaves. Runs that exist in
--out go on where they stopped. 20 + 24 scenes are 220 frames of 24 megapixels (about 2 GB).
"""
import argparse
import json
import pathlib
import subprocess

SCALES = [8, 10, 12, 14]
FAULTS = ["moving", "parallax", "defocus_tele", "defocus_wide", "shake", "other"]
PIPELINES = [("default", []),
             ("points, homography", ["--model", "homography", "--refine", "points"]),
             ("affine, gain and offset", ["--model", "affine", "--brightness", "gain"])]


def run(words):
    print("+", " ".join(str(w) for w in words), flush=True)
    subprocess.run([str(w) for w in words], check=True, stdout=subprocess.DEVNULL)


def pairs_of(out):
    return json.loads((out / "manifest.json").read_text())["pairs"]


def median(values):
    values = sorted(values)
    n = len(values)
    return values[n // 2] if n % 2 else (values[n // 2 - 1] + values[n // 2]) / 2


def quantile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", required=True)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--bin", default="build/release/bin", type=pathlib.Path)
    parser.add_argument("--scenes", type=int, default=20)
    parser.add_argument("--fault-scenes", type=int, default=24)
    parser.add_argument("--seed", type=int, default=9000)
    parser.add_argument("--table", default="tests/bench/results/registration_study.md",
                        type=pathlib.Path)
    a = parser.parse_args()
    acquire, register = a.bin / "ultrasr-acquire", a.bin / "ultrasr-register"
    scales = ",".join(map(str, SCALES))

    clean, faulty = {name: [] for name, _ in PIPELINES}, []
    series = []
    for kind, offset in (("photographs", 0), ("dead leaves", 100)):
        source = ["--photos", a.photos] if kind == "photographs" else []
        for fault, count, more in (("none", a.scenes // 2, 0),
                                   (",".join(FAULTS), a.fault_scenes // 2, 200)):
            folder = a.out / f"{kind.split()[0]}_{'clean' if fault == 'none' else 'faults'}"
            run([acquire, "simulate", folder, "--scales", scales, "--count", count,
                 "--seed", a.seed + offset + more, "--fault", fault, *source])
            series.append((kind, fault, folder))
    for kind, fault, folder in series:
        truth = {(p["scene"], p["scale"]): p for p in
                 json.loads((folder / "truth.json").read_text())["pairs"]}
        for name, options in PIPELINES if fault == "none" else PIPELINES[:1]:
            out = a.out / f"{folder.name}_{name.split(',')[0].replace(' ', '_')}"
            run([register, folder, out, "--truth", folder / "truth.json", "--qa", "none", *options])
            for pair in pairs_of(out):
                pair["kind"] = kind
                pair["fault"] = truth[(pair["scene"], pair["scale"])]["fault"]
                if isinstance(pair["fault"], dict):
                    pair["fault"] = pair["fault"]["name"]
                (faulty if fault != "none" else clean[name]).append(pair)

    accepted = lambda p: p["verdict"] in ("ok", "ok_masked")
    lines = ["# Registration study", "",
             f"`{pathlib.Path(__file__).name} --scenes {a.scenes} --fault-scenes {a.fault_scenes} "
             f"--seed {a.seed}`; errors are RMS over the crop (13 x 9 grid), LR px, against the "
             "simulator's truth.", "",
             "## Clean scenes, accepted pairs of the default pipeline", "",
             "| s | pairs | accepted | median | 90 % | worst | worst, HR px | error / sigma_est: 95 % | worst |",
             "|---|---|---|---|---|---|---|---|---|"]
    for s in SCALES + [None]:
        pairs = [p for p in clean["default"] if s in (None, p["scale"])]
        good = [p for p in pairs if accepted(p)]
        errors = [p["true_error_lr_px"] for p in good]
        ratios = [p["true_error_lr_px"] / p["sigma_est"] for p in good]
        hr = max(p["true_error_lr_px"] * p["scale"] for p in good)
        lines.append(f"| {'all' if s is None else s} | {len(pairs)} | {len(good)} "
                     f"({100 * len(good) / len(pairs):.0f} %) | {median(errors):.4f} | "
                     f"{quantile(errors, .9):.4f} | {max(errors):.4f} | {hr:.2f} | "
                     f"{quantile(ratios, .95):.2f} | {max(ratios):.2f} |")
    lines += ["", "By source: " + "; ".join(
        f"{kind} {sum(accepted(p) for p in clean['default'] if p['kind'] == kind)} of "
        f"{sum(p['kind'] == kind for p in clean['default'])} accepted, median "
        f"{median([p['true_error_lr_px'] for p in clean['default'] if p['kind'] == kind and accepted(p)]):.4f}"
        for kind in ("photographs", "dead leaves")) + ".", ""]
    refused = [p for p in clean["default"] if not accepted(p)]
    lines += ["Refused clean pairs: " + ("; ".join(
        f"{p['kind']} {p['scene']} x{p['scale']} ({p['reason']}; error "
        + (f"{p['true_error_lr_px']:.3f})" if "true_error_lr_px" in p else "not estimated)")
        for p in refused) or "none") + ".", "",
        "## The same clean scenes through other pipelines (all pairs with an estimate, whatever the gates say)",
        "", "| pipeline | s | pairs | median | 90 % | worst | below 0.1 |", "|---|---|---|---|---|---|---|"]
    for name, _ in PIPELINES:
        for s in SCALES:
            errors = [p["true_error_lr_px"] for p in clean[name]
                      if p["scale"] == s and "true_error_lr_px" in p]
            lines.append(f"| {name} | {s} | {len(errors)} | {median(errors):.3f} | "
                         f"{quantile(errors, .9):.3f} | {max(errors):.3f} | "
                         f"{sum(e < .1 for e in errors)} |")
    lines += ["", "## Faults", "",
              "| fault | pairs | accepted | worst error of the accepted | refused: median error (worst) | first reason |",
              "|---|---|---|---|---|---|"]
    for fault in FAULTS:
        pairs = [p for p in faulty if p["fault"] == fault]
        good = [p["true_error_lr_px"] for p in pairs if accepted(p)]
        bad = [p["true_error_lr_px"] for p in pairs if not accepted(p) and "true_error_lr_px" in p]
        reasons = {}
        for p in pairs:
            if not accepted(p):
                reason = p["reason"].split(":")[0]
                reasons[reason] = reasons.get(reason, 0) + 1
        lines.append(f"| {fault} | {len(pairs)} | {len(good)} | "
                     f"{f'{max(good):.3f}' if good else '-'} | "
                     f"{f'{median(bad):.3f} ({max(bad):.3f})' if bad else 'no estimate'} | "
                     + ", ".join(f"{k} {v}" for k, v in sorted(reasons.items(), key=lambda x: -x[1]))
                     + " |")
    both = [p for p in clean["default"] + faulty if accepted(p)]
    ratios = [p["true_error_lr_px"] / p["sigma_est"] for p in both]
    errors = [p["true_error_lr_px"] for p in both]
    lines += ["", f"All {len(both)} accepted pairs, clean and faulty: worst error {max(errors):.3f} LR px; "
              f"{100 * sum(r < 2 for r in ratios) / len(ratios):.1f} % below 2 sigma_est, "
              f"{100 * sum(r < 3 for r in ratios) / len(ratios):.1f} % below 3 sigma_est.", ""]
    a.table.parent.mkdir(parents=True, exist_ok=True)
    a.table.write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""What the demonstration's runs came to, in Markdown.

    summarise.py scores WORK > scores.md    the tables with 95 % intervals, from WORK/results and
                                            WORK/results-no-color-fix
    summarise.py logs WORK > logs.md        how the losses fell, from each run's log.jsonl

Pictures cut from one photograph are not independent, so intervals are bootstrap intervals over
photographs (synthetic sets) or scenes (registered pairs), percentiles of 4000 resamples, seed 1.
Differences are paired: row minus SDD on the same pictures. Python's standard library is enough.
"""
import csv
import json
import random
import statistics
import sys
from collections import defaultdict
from pathlib import Path

METRICS = [("psnr-y601", "PSNR (dB) ↑", 2), ("ssim-y601", "SSIM ↑", 4), ("ms-ssim", "MS-SSIM ↑", 4),
           ("niqe", "NIQE ↓", 2)]
MAIN = [("bicubic", "bicubic"), ("realesr-general-x4v3", "realesr-general-x4v3 (SRVGG)"),
        ("teacher-x4", "teacher, made for x4, applied directly")]
ABLATIONS = [("without-dml", "w/o DML"), ("without-rsd", "w/o RSD"), ("without-ue", "w/o UE"),
             ("without-ni", "w/o NI"), ("without-soft", "w/o soft loss"),
             ("without-hard", "w/o hard loss"), ("theta-detail", "θ from `detail`"),
             ("theta-error", "θ from `error`")]
RESAMPLES = 4000


def read_scores(folder):
    """{metric: {picture: score}}"""
    scores = defaultdict(dict)
    with open(folder / "scores.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for metric, _, _ in METRICS:
                scores[metric][row["image"]] = float(row[metric])
    return scores


def interval(values):
    """Mean over pictures and its interval, resampling what pictures have in common."""
    groups = defaultdict(list)
    for picture, value in values.items():
        groups[picture.rsplit("-", 1)[0]].append(value)
    groups = [(sum(g), len(g)) for g in groups.values()]
    draw = random.Random(1)
    means = []
    for _ in range(RESAMPLES):
        chosen = draw.choices(groups, k=len(groups))
        means.append(sum(s for s, _ in chosen) / sum(n for _, n in chosen))
    means.sort()
    cut = RESAMPLES // 40
    return statistics.fmean(values.values()), means[cut], means[-1 - cut]


def span(values, decimals, sign=""):
    mean, low, high = interval(values)
    return f"{mean:{sign}.{decimals}f} [{low:{sign}.{decimals}f}, {high:{sign}.{decimals}f}]"


def table(heads, rows):
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def difference(a, b):
    return {picture: a[picture] - b[picture] for picture in a}


def print_scores(results, title):
    sets = sorted({f.parents[1] for f in results.glob("*/x*/*/scores.csv")},
                  key=lambda f: (f.parent.name, int(f.name[1:])))
    if not sets:
        sys.exit(f"{results} holds no scores; run.sh table writes them")
    print(f"## {title}\n")
    heads = [""] + [title for _, title, _ in METRICS]
    for folder in sets:
        scores = {run.name: read_scores(run) for run in sorted(folder.iterdir()) if run.is_dir()}
        seeds = sorted(name for name in scores if name.startswith("sdd-"))
        first = scores[seeds[0]]
        count = len(first[METRICS[0][0]])
        print(f"### {folder.parent.name}, {folder.name}: {count} pictures\n")

        # Means, the student's over its seeds
        student = {metric: {p: statistics.fmean(scores[s][metric][p] for s in seeds)
                            for p in first[metric]} for metric, _, _ in METRICS}
        rows = [[label] + [span(scores[name][metric], d) for metric, _, d in METRICS]
                for name, label in MAIN if name in scores]
        rows.append([f"**SDD student**, mean of {len(seeds)} seeds"] +
                    [span(student[metric], d) for metric, _, d in METRICS])
        rows.append(["its seeds one by one"] + [
            ", ".join(f"{statistics.fmean(scores[s][metric].values()):.{d}f}" for s in seeds)
            for metric, _, d in METRICS])
        print(table(heads, rows))

        # Paired differences: the others' from the mean of the seeds, the ablations' from seed 1
        rows = [[f"{label} − SDD"] + [span(difference(scores[name][metric], student[metric]), d, "+")
                                      for metric, _, d in METRICS]
                for name, label in MAIN if name in scores]
        rows += [[f"SDD, seed {s[4:]} − seed {seeds[0][4:]}"] +
                 [span(difference(scores[s][metric], first[metric]), d, "+")
                  for metric, _, d in METRICS] for s in seeds[1:]]
        rows += [[f"{label} − SDD, seed {seeds[0][4:]}"] +
                 [span(difference(scores[name][metric], first[metric]), d, "+")
                  for metric, _, d in METRICS] for name, label in ABLATIONS if name in scores]
        print(table(["paired difference"] + heads[1:], rows))


def print_logs(work):
    rows = []
    for log in sorted(work.glob("*/log.jsonl")):
        batch = json.loads((log.parent / "run.json").read_text(encoding="utf-8"))["batch"]
        stages = defaultdict(list)
        for line in log.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            stages[record["stage"]].append(record)
        for stage, records in stages.items():
            tenth = max(1, len(records) // 10)
            mean = {end: {name: statistics.fmean(r["losses"][name] for r in part)
                          for name in part[0]["losses"]}
                    for end, part in (("first", records[:tenth]), ("last", records[-tenth:]))}
            losses = ", ".join(f"{name} {mean['first'][name]:.3g} → {mean['last'][name]:.3g}"
                               for name in mean["last"])
            checks = [r for r in records if any(k.startswith("val_") for k in r)]
            names = [k for k in checks[-1] if k.startswith("val_")] if checks else []
            checked = ", ".join(f"{k[4:]} {checks[0][k]:.4g} → {checks[-1][k]:.4g}" for k in names)
            speed = statistics.median(r["images_per_second"] for r in records)
            before = [0] + [r["step"] for r in records[:-1]]
            minutes = sum((r["step"] - b) * batch / r["images_per_second"] / 60
                          for r, b in zip(records, before))
            rows.append([log.parent.name, stage, str(records[-1]["steps"]), losses, checked,
                         f"{speed:.0f}", f"{minutes:.1f}", str(records[-1]["skipped"])])
    if not rows:
        sys.exit(f"{work} holds no runs; run.sh makes them")
    print(table(["run", "stage", "steps", "losses, mean of the first and of the last tenth",
                 "validation, first → last", "pictures a second, median", "minutes of steps",
                 "skipped"], rows))


def main():
    def all_scores(work):
        print_scores(work / "results", "Colours as the LR's (AdaIN, the default)")
        print_scores(work / "results-no-color-fix", "Colours as the networks make them")

    commands = {"scores": all_scores, "logs": print_logs}
    if len(sys.argv) != 3 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](Path(sys.argv[2]))


main()

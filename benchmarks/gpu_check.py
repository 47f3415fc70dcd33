"""All that needs a GPU, each check in a process of its own, so that a crash or a hang costs that check alone.

    benchmarks/gpu_check.sh wheels                                            # on a machine with a GPU
    PYTHONPATH=src:tests python benchmarks/gpu_check.py --device cpu --quick  # a rehearsal in small sizes

Every row of the result has a value and its unit, and a goal where there is one. A check that cannot run here says why.
Results go to benchmarks/results/gpu-check-<device>.json and .png.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from losses_floors import products
from measure import interleaved, peak_mib, processor
from sslmed.augment import CrossPatchJigsaw, FrequencyBandStop, GrayJitter, views
from sslmed.losses import info_nce, nt_xent
from sslmed.models import ResNetEncoder

ROOT = Path(__file__).parent.parent
Row = dict[str, Any]


class NotHere(Exception):
    """This machine cannot run the check."""


def row(value: float, unit: str, goal: float | None = None, **more: Any) -> Row:
    """One result; a goal is the most that `value` may be."""
    return {"value": value, "unit": unit, "goal": goal, "met": None if goal is None else value <= goal, **more}


def ratio(device: str, rounds: int, floor: Callable[[], object], ours: Callable[[], object], goal: float | None) -> Row:
    """How many times as long as the floor ours takes, interleaved."""
    times = interleaved({"floor": floor, "ours": ours}, rounds, device)
    ms = {name: times[name]["median_ms"] for name in times}
    return row(ms["ours"] / ms["floor"], "x floor", goal, floor_ms=ms["floor"], ms=ms["ours"])


# The checks: each takes the device and whether to be quick, and gives its rows


def check_tests(device: str, quick: bool) -> dict[str, Row]:
    """The tests that are marked for a GPU."""
    which = "tests/memory" if quick else "tests"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", which]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|skipped|errors?)\b", done.stdout)}
    failed = counts.get("failed", 0) + counts.get("error", 0) + counts.get("errors", 0)
    if not counts:
        raise NotHere((done.stdout + done.stderr)[-500:])
    names = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, flags=re.MULTILINE)
    return {"tests that failed": row(failed, "tests", 0, counts=counts, names=names)}


def check_augmentations(device: str, quick: bool) -> dict[str, Row]:
    """Band-stop against the Fourier transform there and back, the jigsaw against a copy."""
    scale, rounds = (8, 2) if quick else (1, 30)
    rows = {}
    for b, c, side, goal in ((32, 1, 224, 1.15), (32, 3, 224, 1.15), (256, 1, 64, 1.15), (256, 1, 224, 1.15)):
        x, band_stop, half = (
            torch.rand(b // scale, c, side, side, device=device),
            FrequencyBandStop(),
            FrequencyBandStop(p=0.5),
        )
        size = f"{b}x{c}x{side}x{side}"

        def pair(x: Tensor = x) -> Tensor:
            return torch.fft.irfft2(torch.fft.rfft2(x), s=x.shape[-2:])

        rows[f"band-stop {size}"] = ratio(device, rounds, pair, lambda x=x, f=band_stop: f(x), goal)
        rows[f"band-stop {size}, p = 0.5"] = ratio(device, rounds, pair, lambda x=x, f=half: f(x), None)
    for c in (1, 3):
        x, jigsaw = torch.rand(256 // scale, c, 216, 216, device=device), CrossPatchJigsaw()
        rows[f"cross-patch jigsaw 256x{c}x216x216"] = ratio(device, rounds, x.clone, lambda x=x, f=jigsaw: f(x), 1.5)
    return rows


def check_losses(device: str, quick: bool) -> dict[str, Row]:
    """NT-Xent and InfoNCE, forward and backward, against two matrix products; and their memory."""
    rounds = 2 if quick else 30
    half = torch.bfloat16
    rows = {}
    for n, d, dtype, goal in ((256, 256, half, 1.2), (8192, 256, half, 1.2), (8192, 256, torch.float32, None)):
        count = n // 16 if quick else n
        z = [torch.randn(count // 2, d, device=device, dtype=dtype, requires_grad=True) for _ in "01"]
        both = F.normalize(torch.cat(z).detach(), dim=1)
        name = f"NT-Xent N = {n}, D = {d}, {str(dtype).removeprefix('torch.')}"
        rows[name] = ratio(
            device,
            rounds,
            products(both, both),
            lambda z=z: torch.autograd.grad(nt_xent(*z), z),
            goal if n == 8192 else None,
        )
        rows[name] |= memory(device, lambda z=z: torch.autograd.grad(nt_xent(*z), z))
    k = 4096 if quick else 65536
    query = torch.randn(256, 128, device=device, requires_grad=True)
    key, queue = (F.normalize(torch.randn(count, 128, device=device), dim=1) for count in (256, k))

    def call() -> object:
        return torch.autograd.grad(info_nce(query, key, queue), query)

    rows["InfoNCE K = 65536, float32"] = ratio(device, rounds, products(query.detach(), queue), call, None) | memory(
        device, call
    )
    return rows


def memory(device: str, call: Callable[[], object]) -> Row:
    """Peak memory of one call on a GPU."""
    return {"peak_mib": peak_mib(call, device)} if device == "cuda" else {}


def check_share(device: str, quick: bool) -> dict[str, Row]:
    """The share of a ResNet-50 pretext step that augmentation takes: 224 pixels, batches of 256, bfloat16."""
    batch, side, rounds = (4, 64, 1) if quick else (256, 224, 5)
    x, encoder = torch.rand(batch, 1, side, side, device=device), ResNetEncoder("resnet50").to(device)
    three = nn.Sequential(FrequencyBandStop(), CrossPatchJigsaw(grid=(4, 4)), GrayJitter(p=1.0))
    simclr = views.simclr(side)

    def step() -> None:
        encoder.zero_grad(set_to_none=True)
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = encoder(x)[-1].float().mean()
        loss.backward()

    calls = {"step": step, "band-stop, jigsaw, jitter": lambda: three(x), "views.simclr": lambda: simclr(x)}
    ms = {name: one["median_ms"] for name, one in interleaved(calls, rounds, device, warm_up=1).items()}
    step_ms = ms.pop("step")
    return {
        name: row(
            100 * own / (own + step_ms),
            "% of a step",
            2.0 if name.startswith("band") else None,
            ms=own,
            step_ms=step_ms,
        )
        for name, own in ms.items()
    }


def check_waits(device: str, quick: bool) -> dict[str, Row]:
    """Which pieces make the processor wait for the GPU: none of the augmentations, losses and memories should."""
    if device != "cuda":
        raise NotHere("needs CUDA's own report of synchronisations")
    import pieces

    waiting: dict[str, str] = {}
    checked = 0
    for name, piece in pieces.pieces().items():
        if piece.room not in ("augment", "losses", "memory") or "kornia" in name:
            continue
        pieces.begin(device=device)
        target = piece.make()
        target = target.to(device) if isinstance(target, nn.Module) else target
        piece.call(target)  # caches and kernels
        pieces.begin(device=device)
        checked += 1
        torch.cuda.set_sync_debug_mode("warn")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            piece.call(target)
        torch.cuda.set_sync_debug_mode("default")
        texts = [str(w.message) for w in caught if "synchroniz" in str(w.message)]
        if texts:
            waiting[name] = f"{len(texts)} times"
    return {"pieces that wait": row(len(waiting), "pieces", None, checked=checked, names=waiting)}


def check_compile(device: str, quick: bool) -> dict[str, Row]:
    """What torch.compile gains: time compiled over time as written, after compilation."""
    rounds, batch = (1, 2) if quick else (20, 64)
    x = torch.rand(batch, 1, 224, 224, device=device)
    backend = "eager" if quick else "inductor"
    rows = {}
    for module in (FrequencyBandStop(), CrossPatchJigsaw(grid=(7, 7)), GrayJitter(p=1.0)):
        params = module.forward_parameters(x.shape)
        compiled = torch.compile(module, fullgraph=True, backend=backend)
        name = type(module).__name__
        one = ratio(
            device,
            rounds,
            lambda m=module, p=params: m(x, params=p),
            lambda m=compiled, p=params: m(x, params=p),
            None,
        )
        rows[f"{name}, compiled"] = one | {"unit": "x as written"}
    return rows


# A method of each kind, with all labels: enough to see that every network and every loss of the papers runs.
PROGRAMS = {
    "ultrasound_relation": "--methods supervised jig/pirl cp-jig+freq/rcl+percep --labels 1.0 --weights none",
    "multi_organ": "--methods supervised moco/multi-organ simclr/BUS simsiam/BUS --labels 1.0",
    "multimodal_breast": "--domains us --methods supervised simclr moco byol --labels 1.0",
    "mr_masked_vs_contrastive": "--methods masked contrastive --labels 1",
}


def check_presets(device: str, quick: bool) -> dict[str, Row]:
    """Each program's paper preset for 30 steps of each stage, on phantoms."""
    try:
        import jinja2  # noqa: F401
        import lightning  # noqa: F401
    except ModuleNotFoundError as error:
        raise NotHere(f"the extra studies is not installed ({error.name})") from error
    rows = {}
    for program in list(PROGRAMS)[:1] if quick else PROGRAMS:
        rows[program] = row(thirty_steps(program, quick), "s")
    return rows


def thirty_steps(program: str, quick: bool) -> float:
    """Seconds of one short run of a program."""
    settings = ["pretext.epochs=1", "finetune.epochs=1"]
    settings += [] if quick else ["pretext.batches=30", "finetune.batches=30"]
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, f"examples/{program}.py", "--preset", "smoke" if quick else "paper", "--out", out]
        command += [*PROGRAMS[program].split(), "--seeds", "0", "--set", *settings]
        start = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{program}: {(done.stdout + done.stderr)[-800:]}")
        return time.perf_counter() - start


def check_processes(device: str, quick: bool) -> dict[str, Row]:
    """Two processes on one device: their loss and gradients must be those of one process."""
    with tempfile.TemporaryDirectory() as folder:
        worker = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29517"]
        command = [*worker, __file__, "--device", device, "--pair", str(Path(folder) / "gap")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError((done.stdout + done.stderr)[-800:])
        gap = float((Path(folder) / "gap").read_text())
    return {"largest difference of a gradient": row(gap, "relative", 1e-4)}


def pair_worker(device: str, out: Path) -> None:
    """One of two processes: NT-Xent over both, against the same of all samples at once."""
    from torch import distributed as dist

    from sslmed.distributed import gather

    dist.init_process_group("gloo")
    rank = dist.get_rank()
    everything = torch.randn(2, 64, 32, generator=torch.Generator().manual_seed(0)).to(device)
    whole = everything.clone().requires_grad_()
    wanted = torch.autograd.grad(nt_xent(*whole), whole)[0]
    mine = everything[:, 32 * rank : 32 * rank + 32].clone().requires_grad_()
    nt_xent(gather(mine[0]), gather(mine[1])).backward()
    assert mine.grad is not None
    # Each process differentiates the loss of all samples; DistributedDataParallel would average over the processes.
    ours = mine.grad / dist.get_world_size()
    gap = (ours - wanted[:, 32 * rank : 32 * rank + 32]).abs().max() / wanted.abs().max()
    gaps: list[Any] = [None, None]
    dist.all_gather_object(gaps, float(gap))
    if rank == 0:
        out.write_text(str(max(gaps)))
    dist.destroy_process_group()


# Name, and the most seconds it may take; in the order of what one wants to know first
CHECKS: dict[str, tuple[Callable[[str, bool], dict[str, Row]], int]] = {
    "augmentations": (check_augmentations, 40),
    "losses": (check_losses, 40),
    "share": (check_share, 40),
    "waits": (check_waits, 40),
    "compile": (check_compile, 60),
    "processes": (check_processes, 40),
    "tests": (check_tests, 150),
    "presets": (check_presets, 240),
}


def in_a_process(name: str, device: str, quick: bool, left: float) -> dict[str, Any]:
    """Run one check in a process of its own, for at most its time and what is left of all."""
    slack = 1 if device == "cuda" else 20  # a rehearsal shares its processor with others
    seconds = min(slack * CHECKS[name][1], int(left))
    if seconds < 5:
        return {"skipped": "no time was left"}
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "rows.json"
        command = [
            sys.executable,
            __file__,
            "--device",
            device,
            "--only",
            name,
            str(result),
            *(["--quick"] if quick else []),
        ]
        start = time.perf_counter()
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            return {"error": f"not done after {seconds} s"}
        taken = {"seconds": round(time.perf_counter() - start, 1)}
        if not result.exists():
            return taken | {"error": (done.stdout + done.stderr)[-2000:]}
        return taken | json.loads(result.read_text())


def draw(content: dict[str, Any], path: Path) -> None:
    """Bars of each row with a goal: its value over the goal."""
    from matplotlib.figure import Figure

    rows = {
        f"{name}: {one['value']:.3g} {one['unit']} (goal {one['goal']:g})": one["value"] / one["goal"]
        for check in content["checks"].values()
        for name, one in check.get("rows", {}).items()
        if one["goal"]
    }
    figure = Figure(figsize=(9, 0.35 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    names = list(rows)[::-1]
    axes.barh(names, [rows[name] for name in names], color=["#1b6ca8" if rows[n] <= 1 else "#c0562f" for n in names])
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("value over goal; up to 1 the goal is met")
    axes.set_title(f"{content['machine']}{', quick: sizes mean nothing' if content['quick'] else ''}", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=100)


def describe(name: str, check: dict[str, Any]) -> str:
    """One check in lines."""
    lines = [f"{name} ({check.get('seconds', '-')} s) {check.get('skipped') or check.get('error') or ''}".rstrip()]
    for title, one in check.get("rows", {}).items():
        mark = {True: "met", False: "MISSED", None: ""}[one["met"]]
        goal = f" (goal {one['goal']:g}) {mark}" if one["goal"] is not None else ""
        lines.append(f"  {title:48s} {one['value']:10.3g} {one['unit']}{goal}")
    return "\n".join(lines)


def main() -> None:
    """Run all checks, or the one that a process was started for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to rehearse")
    parser.add_argument("--minutes", type=float, default=7.5, help="end after this time (7.5)")
    parser.add_argument("--checks", nargs="+", choices=list(CHECKS), default=list(CHECKS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", metavar="FOLDER")
    parser.add_argument("--only", nargs=2, metavar=("CHECK", "FILE"), help=argparse.SUPPRESS)
    parser.add_argument("--pair", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("this machine has no CUDA device; --device cpu --quick rehearses")
    torch.manual_seed(0)
    if args.pair:
        pair_worker(args.device, args.pair)
        return
    if args.only:
        try:
            found: dict[str, Any] = {"rows": CHECKS[args.only[0]][0](args.device, args.quick)}
        except NotHere as reason:
            found = {"skipped": str(reason)}
        Path(args.only[1]).write_text(json.dumps(found))
        return
    content: dict[str, Any] = {
        "machine": torch.cuda.get_device_name() if args.device == "cuda" else processor(),
        "versions": {"python": sys.version.split()[0], "torch": torch.__version__, "cuda": torch.version.cuda},
        "device": args.device,
        "quick": args.quick,
        "checks": {},
    }
    os.makedirs(args.out, exist_ok=True)
    path = args.out / f"gpu-check-{args.device}.json"
    end = time.monotonic() + 60 * args.minutes
    for name in args.checks:
        check = in_a_process(name, args.device, args.quick, end - time.monotonic())
        content["checks"][name] = check
        print(describe(name, check), flush=True)
        path.write_text(json.dumps(content, indent=1) + "\n")  # after each, so that a cut run keeps what it has
    try:
        draw(content, path.with_suffix(".png"))
    except ModuleNotFoundError:
        print("no picture: matplotlib is not installed")
    print(path)
    failed = [name for name, check in content["checks"].items() if "error" in check]
    sys.exit(f"these checks ended in an error: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()

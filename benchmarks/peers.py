"""Our inference against OnnxRuntime's and OpenVINO's of the same network, in turn, on the CPU.

`python benchmarks/peers.py carn` is the process in which benchmarks/speed.py has a network timed: it prints the seconds
per image as JSON, {"ours fp32": [...], ...}. It starts as test.py does, so that its threads wait as they do there.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if __name__ == "__main__":  # before what takes seconds to import
    from support.start import start_script

    start_script()

import json
import statistics
import subprocess
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec

import torch

from benchmarks import measure
from benchmarks.reference import SCALE, add_options_argument
from engine.exporting import require_packages, to_onnx, with_plain_layers
from engine.inference import InPrecision
from models import TRAINABLE, build_model, parse_options
from support.command_line import Parser, UserError, positive_float, run_script
from support.devices import has_bf16

SIDE = 64  # LR pixels of the square image
PAUSE = 0.1  # seconds before each image, in which threads of the one before stop turning: OnnxRuntime's take 50 ms
PEERS = ("onnxruntime", "openvino")
PRECISIONS = {"fp32": "f32", "bf16": "bf16"}  # and what OpenVINO calls them


def ways(model, image):
    """Return {"runtime precision": function that enlarges image, (1, 1, h, w) float32}, all with torch's threads.

    OnnxRuntime computes in float32 only; where OpenVINO is not installed, or the CPU has no bf16, it is left out.
    """
    import onnxruntime

    content, threads = to_onnx(with_plain_layers(model), True, "the network", {}), torch.get_num_threads()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    found = {"onnxruntime fp32": partial(session.run, None, {"image": image.numpy()})}
    for precision in ("fp32", "bf16") if has_bf16(torch.device("cpu")) else ("fp32",):
        found[f"ours {precision}"] = torch.no_grad()(partial(InPrecision(model, precision), image))
        if find_spec("openvino"):
            import openvino

            settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": PRECISIONS[precision]}
            core = openvino.Core()
            compiled = core.compile_model(core.read_model(content, b""), "CPU", settings)
            found[f"openvino {precision}"] = partial(compiled, [image.numpy()])
    return found


@contextmanager
def neighbour():
    """Have another process, which is yielded, keep one core busy."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield process
        finally:
            process.kill()


def timed(bench, name):
    """Return {"runtime precision": [seconds per image]} of a network, from a process of its own."""
    command = [sys.executable, __file__, name, *bench.assignments, "--seconds", bench.args.seconds / 2]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    if done.returncode:
        raise UserError((done.stderr.strip().splitlines() or ["it was ended"])[-1])
    return json.loads(done.stdout.splitlines()[-1])


def check(bench):
    """Raise UserError where nothing can be compared; print what is left out."""
    require_packages([".onnx"])
    if bench.device.type != "cpu":
        raise UserError(f"the other runtimes compute on the CPU, not on {bench.device}; give --device cpu")
    if not find_spec("openvino"):
        print("openvino is left out: it is not installed; pip install -r requirements-dev.txt", flush=True)


def against_best(times):
    """Return {precision: spread of the faster peer's time over ours, round by round}: above 1 ours is faster."""
    ratio = {}
    for precision in PRECISIONS:
        peers = [times[f"{peer} {precision}"] for peer in PEERS if f"{peer} {precision}" in times]
        if peers:
            ratio[precision] = measure.ratios(map(min, zip(*peers, strict=True)), times[f"ours {precision}"])
    return ratio


def measure_peers(bench):
    """Seconds per 64x64 image of each runtime and precision, network by network, and the faster peer's over ours."""
    check(bench)
    results = {}
    for name in bench.args.models:
        print(f"measuring the runtimes: {name}", flush=True)
        times = timed(bench, name)
        spreads = {way: measure.spread(row) for way, row in times.items()}
        results[name] = {"seconds": times, "spread": spreads, "ratio": against_best(times)}
    return results


def measure_busy(bench):
    """How many times as long an image takes while another process keeps one core busy, as when the machine is idle."""
    check(bench)
    results = {}
    for name in bench.args.models:
        print(f"measuring beside a busy process: {name}", flush=True)
        idle = timed(bench, name)
        with neighbour():
            busy = timed(bench, name)
        factor = {way: measure.spread(t / statistics.median(idle[way]) for t in busy[way]) for way in idle}
        results[name] = {"idle": idle, "busy": busy, "factor": factor}
    return results


def main(argv=None):
    """Be the process."""
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=TRAINABLE, help="network")
    add_options_argument(parser)
    parser.add_argument("--seconds", type=positive_float, default=10.0, help="in which rounds are begun")
    args = parser.parse_args(argv)
    torch.manual_seed(0)
    actions = ways(
        build_model(args.model, SCALE, **parse_options(args.model, args.assignments)).eval(),
        torch.rand(1, 1, SIDE, SIDE),
    )
    measure.in_turn(actions, torch.device("cpu"), 0, at_least=1)  # warm-up
    print(json.dumps(measure.in_turn(actions, torch.device("cpu"), args.seconds, pause=PAUSE)))


if __name__ == "__main__":
    run_script(main)

"""What the report is made of, read from the files that the project's commands wrote; nothing is measured here."""

import csv
import json
import math
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from data.catalog import TEST_SETS, TRAIN_SETS
from data.patches import DEFAULT_COPIES, DEFAULT_PATCH, count_patches
from engine.recipe import EXPLODED_LOSS, HELD_OUT
from models import TRAINABLE, build_model, count_parameters, model_label, model_options
from models.listing import count_multiply_adds, receptive_field
from report.experiments import GROUPS, REPEATED, Experiment
from report.result_files import network_of, read_result
from support.command_line import UserError

SCALE = 4
TRAINING_SET = "T91"
SCORE = "python test.py --weights weights/*.pth"  # what makes the main results
TEST_SET = "Set5"
SECOND_SET = "Set14"  # more images, on which nothing was ever decided
HELD_OUT_FILE = f"{TRAINING_SET}_x{SCALE}_held-out_bicubic.json"


@dataclass
class Network:
    """One network of the registry with what is known of it; what has not been measured is None."""

    name: str
    paper: dict  # psnr and second_psnr (on SECOND_SET) in dB, training_set
    result: dict | None  # of test.py, with the shipped weights
    ensemble: dict | None  # likewise, with --self-ensemble
    second: dict | None  # likewise, on SECOND_SET
    histories: dict  # end of a log's name ("_run1", … of earlier runs, "" of the last), in order: its rows
    speed: dict  # patches_per_s and seconds per image, of benchmarks/speed.py

    @property
    def label(self):
        return model_label(self.name, {})

    @property
    def parameters(self):
        return measured_size(self.name)[0]

    @property
    def giga(self):
        """Multiply-adds for a 1280x720 output, in 10^9."""
        return measured_size(self.name)[1]

    @property
    def receptive_field(self):
        return measured_field(self.name)

    @property
    def enlarges_first(self):
        """Whether it works on the bicubic image: on scale^2 times as many pixels."""
        return "upsample" in measured_parts(self.name)

    @property
    def psnr(self):
        return self.result["mean"]["psnr"] if self.result else None

    @property
    def ssim(self):
        return self.result["mean"]["ssim"] if self.result else None

    @property
    def trained(self):
        return self.result["trained"] if self.result else {}

    @property
    def history(self):
        """The rows of the last run."""
        return self.histories[""]

    @property
    def epochs(self):
        """How many its last run had, up to when it was ended."""
        return self.runs[-1][1]

    @property
    def runs(self):
        """[(what is known of a run, the epochs it had)] of the runs that the weights come from, the oldest first."""
        runs = [*self.trained.get("started_from", []), self.trained]
        return [(run, len(log) or run["epoch"]) for run, log in zip(runs, self.histories.values(), strict=True)]

    @property
    def shown(self):
        """Each run's rows that the curves show: up to the best epoch, with which the next begins; all of the last."""
        *begun, last = zip(self.histories.values(), self.runs, strict=True)
        return [*(log[: run["epoch"]] for log, (run, _) in begun), last[0]]

    @property
    def stages(self):
        """The same runs as (steps, patches in a step, the patches' size)."""
        return [
            (steps_per_epoch(run) * epochs, run["recipe"]["batch_size"], run["data"]["patch_size"])
            for run, epochs in self.runs
        ]

    @property
    def points(self):
        """[steps that its weights went through, loss, held-out PSNR] at the end of each epoch that is shown."""
        points, before = [], 0
        for rows, (run, _) in zip(self.shown, self.runs, strict=True):
            steps = steps_per_epoch(run)
            points += [[before + steps * row["epoch"], row["loss"], row["val_psnr"]] for row in rows]
            before += steps * run["epoch"]
        return points


@dataclass
class Facts:
    """Everything that the report's text, tables and figures are made from."""

    networks: list  # of Network, in the registry's order
    bicubic: dict  # "mean" and "images" of the bicubic row
    experiments: dict  # {name: result of test.py with history}
    benchmark: dict  # of benchmarks/speed.py
    benchmark_file: str
    literature: dict
    held_out: dict  # bicubic's scores on T91's held-out images

    @property
    def scored(self):
        """The networks that have weights and a result."""
        return [network for network in self.networks if network.result]

    @property
    def scored_twice(self):
        """Those that have a result on the second test set too."""
        return [network for network in self.scored if network.second]

    @property
    def second_bicubic(self):
        """What `bicubic` is, on the second test set; None where nothing was scored on it."""
        return bicubic_of(self.scored_twice[0].second) if self.scored_twice else None

    @property
    def begun(self):
        """Those whose training began with trained weights."""
        return [network for network in self.scored if len(network.runs) > 1]

    @property
    def by_psnr(self):
        """Those, the best first."""
        return sorted(self.scored, key=lambda network: network.psnr, reverse=True)

    def group(self, name):
        """[(experiment, result)] of one group of experiments, those that were run."""
        there = [(experiment, self.experiments.get(experiment.name)) for experiment in GROUPS[name]]
        return [(experiment, result) for experiment, result in there if result]

    def pairs(self, name):
        """[(with, without)] of a group of switches, as (experiment, result) each, where both were run."""
        runs = {experiment.name: (experiment, result) for experiment, result in self.group(name)}
        couples = zip(GROUPS[name][::2], GROUPS[name][1::2], strict=True)
        return [(runs[on.name], runs[off.name]) for on, off in couples if {on.name, off.name} <= {*runs}]

    @cached_property
    def seeds(self):
        """{network: (2, runs) PSNR in dB, on Set5 and on the held-out images} where there are several seeds."""
        runs = {name: [] for name in REPEATED}
        for experiment, result in self.group("seeds"):
            runs[experiment.model].append(result)
        return {name: psnrs_of(results) for name, results in runs.items() if len(results) > 1}

    @cached_property
    def whole_seeds(self):
        """What `seeds` is, of the shipped weights and of trainings that differ from theirs in nothing but the seed."""
        runs = {network.name: [network.result] for network in self.scored}
        for experiment, result in self.group("whole_seeds"):
            for shipped in runs.get(experiment.model, [])[:1]:
                if network_of(result) == network_of(shipped):
                    runs[experiment.model].append(result)
        return {name: psnrs_of(results) for name, results in runs.items() if len(results) > 1}

    @property
    def all_seeds(self):
        """[(network, epochs, PSNR of its runs)] of both, in tables' order."""
        short = [(name, Experiment.epochs, runs) for name, runs in self.seeds.items()]
        epochs = {network.name: network.epochs for network in self.scored}
        return short + [(name, epochs[name], runs) for name, runs in self.whole_seeds.items()]

    def spread(self, name, held_out=False):
        """Standard deviation in dB of a network's PSNR between seeds, on Set5 or on the held-out images.

        For a network with one seed only it is the largest that is known.
        """
        known = {model: float(psnrs[int(held_out)].std(ddof=1)) for model, psnrs in self.seeds.items()}
        return known.get(name, max(known.values(), default=None))

    def error(self, name, other=None, held_out=False):
        """Standard deviation in dB of the difference between single runs of two networks, or two of one network's."""
        spreads = [self.spread(name, held_out), self.spread(other or name, held_out)]
        return None if None in spreads else math.hypot(*spreads)

    def threshold(self, name, other=None, held_out=False):
        """Two such deviations: a smaller difference is not taken for one."""
        error = self.error(name, other, held_out)
        return None if error is None else 2 * error

    def counts(self, difference, name, held_out=False):
        """Whether a difference between runs of a network is more than the luck of the seed; None: not known."""
        threshold = self.threshold(name, held_out=held_out)
        return None if threshold is None else abs(difference) > threshold


def highest_shown(networks):
    """The highest loss that curves of these networks show: above, a step went astray. networks: points of each."""
    first = (points[0][1] for points in networks)
    return 1.3 * max((loss for loss in first if loss <= EXPLODED_LOSS), default=math.inf)


def psnrs_of(results):
    """(2, runs) PSNR in dB, on Set5 and on the held-out images."""
    return np.array([(result["mean"]["psnr"], result["trained"]["val_psnr"]) for result in results]).T


def least_that_counts(psnrs):
    """Two standard deviations of the difference between two of these runs (dB), which differ by the seed alone."""
    return float(2 * math.sqrt(2) * psnrs.std(ddof=1))


@cache
def measured_size(name, **options):
    """(parameters, multiply-adds for a 1280x720 output in 10^9) of a network; measuring takes a part of a second."""
    model = build_model(name, SCALE, **options)
    return count_parameters(model), count_multiply_adds(name, SCALE, **options) / 1e9


@cache
def measured_parts(name):
    """The names of a network's outermost parts."""
    return {part for part, _ in build_model(name, SCALE).named_children()}


@cache
def measured_field(name):
    """The receptive field of a network as the registry has it; measuring takes a second."""
    return receptive_field(name, SCALE)


@cache
def patch_count(patch_size=DEFAULT_PATCH, stride=DEFAULT_PATCH, copies=DEFAULT_COPIES):
    """T91's training patches, cut as prepare.py does by default, or in another size, stride or other copies."""
    return count_patches(TRAIN_SETS[TRAINING_SET], patch_size, stride, SCALE, copies)


def cutting(trained):
    """(patch_size, stride, copies) of the patches of a run. trained: what a result of test.py says of it."""
    data = trained["data"]
    copies = data.get("copies", (1.0,))  # absent: from before there were any
    return data["patch_size"], data["stride"], tuple(copies)


def steps_per_epoch(trained):
    """Steps in an epoch of a run on T91."""
    return math.ceil(patch_count(*cutting(trained)) / trained["recipe"]["batch_size"])


def shown_steps(trained):
    """(planned, those to the best epoch): the steps of a run on T91 as tables have them, 4,617."""
    return tuple(f"{steps_per_epoch(trained) * epochs:,}" for epochs in (trained["recipe"]["epochs"], trained["epoch"]))


def result_of(path):
    """The document of a result file, checked, or None where there is none."""
    return read_result(path).document if path.exists() else None


def read_history(path):
    """The rows of a log.csv as numbers; [] where there is none."""
    if not path.exists():
        return []
    with open(path, encoding="utf-8") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    return [row | {"epoch": int(row["epoch"])} for row in rows]


def read_histories(folder, name, result):
    """Network.histories of a network's weights; [] for a run that has no log here. UserError for another run's log."""
    if not result:
        return {"": []}
    runs = [*result["trained"].get("started_from", []), result["trained"]]
    suffixes = [*(f"_run{number}" for number in range(1, len(runs))), ""]
    histories = {}
    for suffix, run in zip(suffixes, runs, strict=True):
        path = folder / f"{name}_x{SCALE}{suffix}.csv"
        histories[suffix] = read_history(path)
        check_log(path, histories[suffix], run)
    return histories


def result_file(name, suffix="", test_set=TEST_SET):
    """Where test.py writes the result of a network, below the report's folder."""
    return f"results/{test_set}_x{SCALE}_{name}{suffix}.json"


def main_result(folder, name):
    """The result of weights/<name>_x4.pth, or None where there is none.

    Raises UserError for one that is of other weights, or of weights that the report's text is not about.
    """
    path = folder / result_file(name)
    result = result_of(path)
    if not result:
        return None
    weights, trained = f"weights/{name}_x{SCALE}.pth", result["trained"]
    if result["weights"]["path"] != weights:
        raise UserError(
            f"{path} is of {result['weights']['path']}, the report is about {weights}; copy yours there, with its log "
            f"(README, The report), or leave that; then run {SCORE}"
        )
    if (trained["data"]["dataset"], trained["val_set"]) != (TRAINING_SET, HELD_OUT):
        raise UserError(
            f"{path}: trained on {trained['data']['dataset']}, its epoch chosen on {trained['val_set']}; the report is "
            f"about networks trained on {TRAINING_SET} and chosen on its {HELD_OUT} images: git restore {weights}"
        )
    return result


def further_result(folder, name, result, suffix="", test_set=TEST_SET):
    """A further result of a network, or None where there is none of the weights that `result` is of."""
    other = result_of(folder / result_file(name, suffix, test_set))
    alike = other and result and other["weights"]["sha256"] == result["weights"]["sha256"]
    return other if alike else None


def check_log(path, rows, trained):
    """Raise UserError unless the rows of a log, if any, are of a run. trained: what a checkpoint says of that."""
    epoch = trained["epoch"]
    if rows and (len(rows) < epoch or rows[epoch - 1]["val_psnr"] != trained["val_psnr"]):
        raise UserError(
            f"{path} is not the log of the run whose weights were tested: epoch {epoch} is not there with "
            f"{trained['val_psnr']} dB; copy that run's log.csv to it, or delete it"
        )


def find_benchmark(folder, names):
    """(file, document) of the newest run of benchmarks/speed.py on a CPU, else on anything.

    Counted are those that measured training and inference of all these networks, with no options.
    """
    found = []
    for path in sorted(Path(folder).glob("*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        plain = not any(document.get("options", {}).values())
        if plain and all(speed_of(document, name) for name in names):
            found.append((document["hardware"]["device"] == "cpu", document["date"], path, document))
    if not found:
        raise UserError(
            f"{folder} holds no result of benchmarks/speed.py on all networks; run python benchmarks/speed.py"
        )
    *_, path, document = max(found, key=lambda entry: entry[:2])
    return path, document


def load(folder, benchmarks):
    """The Facts in a report folder and a folder of benchmark results.

    Raises UserError naming the file and the command that makes it where something that is needed is missing.
    """
    folder = Path(folder)
    literature = json.loads((folder / "literature.json").read_text(encoding="utf-8"))
    names = [name for name in TRAINABLE if name in literature["networks"]]
    file, benchmark = find_benchmark(benchmarks, names)
    held_out = json.loads((folder / "results" / HELD_OUT_FILE).read_text(encoding="utf-8"))
    networks = []
    for name in names:
        result = main_result(folder, name)
        ensemble = further_result(folder, name, result, "_ensemble")
        second = further_result(folder, name, result, test_set=SECOND_SET)
        histories, speed = read_histories(folder / "logs", name, result), speed_of(benchmark, name)
        networks.append(Network(name, literature["networks"][name], result, ensemble, second, histories, speed))
    scored = [network.result for network in networks if network.result]
    if not scored:
        raise UserError(f"{folder}/results holds no result of shipped weights; run {SCORE}")
    experiments = {path.stem: result_of(path) for path in sorted(Path(folder, "experiments").glob("*.json"))}
    check_experiments(experiments)
    return Facts(networks, bicubic_of(scored[0]), experiments, benchmark, file.name, literature, held_out)


def check_experiments(results):
    """Raise UserError unless every result is of the experiment that its name says.

    results: {name: document}.
    """
    for experiment in (experiment for members in GROUPS.values() for experiment in members):
        if experiment.name not in results:
            continue
        result = results[experiment.name]
        found = (result["model"], result["options"], result["trained"]["recipe"]["epochs"])
        if found != (experiment.model, model_options(experiment.model) | experiment.options, experiment.epochs):
            model, options, epochs = found
            text = ", ".join(f"{option}={value}" for option, value in options.items())
            raise UserError(
                f"experiments/{experiment.name}.json is of {model} with {text} after {epochs} epochs; delete it "
                "and run python report/run_experiments.py"
            )


def bicubic_of(result):
    """The bicubic columns of a result as a result of their own."""
    images = [
        {"name": image["name"], "psnr": image["bicubic_psnr"], "ssim": image["bicubic_ssim"]}
        for image in result["images"]
    ]
    mean = {"psnr": result["mean"]["bicubic_psnr"], "ssim": result["mean"]["bicubic_ssim"]}
    return {"images": images, "mean": mean}


def speed_of(benchmark, name):
    """A network's training speed in patches/s and seconds per test image in fp32; None where it was not measured."""
    if not all(name in benchmark.get(part, {}) for part in ("training", "inference")):
        return None
    return {
        "patches_per_s": benchmark["training"][name]["patches_per_s"]["ours"]["median"],
        "seconds": benchmark["inference"][name]["mean_seconds"]["fp32"]["median"],
    }


def set_numbers():
    """{set: images, megapixels, manifest} of the sets that the report uses."""
    sets = {TRAINING_SET: TRAIN_SETS[TRAINING_SET], TEST_SET: TEST_SETS[TEST_SET], SECOND_SET: TEST_SETS[SECOND_SET]}
    return {
        name: {
            "images": len(one.images),
            "held_out": one.held_out,
            "megapixels": sum(image.width * image.height for image in one.images) / 1e6,
            "manifest": one.manifest,
        }
        for name, one in sets.items()
    }

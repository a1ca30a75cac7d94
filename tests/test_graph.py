"""The recorded step and the compiled network: called like the plain ones, with the plain ones' results."""

import shutil
from contextlib import contextmanager

import pytest
import torch
from helpers import VDSR, random_run, refused, train_epochs, train_flags

from engine.graph import EAGER_STEPS, RecordedStep, accelerate
from engine.step import TrainingStep


def values(step):
    """All that a step changes."""
    run = step.run
    moments = [value for state in run.optimizer.state.values() for value in state.values()]
    networks = [*run.model.state_dict().values(), *run.average.model.state_dict().values()]
    counted = [step.network.steps] if step.network is not run.model else []
    return [*networks, run.average.steps, *counted, *moments]


@pytest.mark.parametrize(  # after 4 comes the small batch; DRCN's loss depends on the number of the step
    ("name", "eager"), [("srresnet", EAGER_STEPS), ("srresnet", 4), ("drcn", EAGER_STEPS)]
)
def test_recorded_step_is_replayed_on_each_batch_once_and_a_batch_of_another_size_runs_as_written(
    monkeypatch, name, eager
):
    """CUDA's graphs, played by this processor: recording runs nothing, replaying reads and writes what was recorded."""
    monkeypatch.setattr("engine.graph.EAGER_STEPS", eager)
    written, recorded = random_run(name), random_run(name)
    plain, step = TrainingStep(written), RecordedStep(TrainingStep(recorded), "the step", 4)
    replayed = []

    class Graph:
        def replay(self):
            replayed.append(step.batch[0].clone())
            step.loss.copy_(step.step(*step.batch))

    @contextmanager
    def graph(graph):
        before = [value.clone() for value in values(step.step)]
        yield
        for value, kept in zip(values(step.step), before, strict=True):
            value.data.copy_(kept)

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    assert train_epochs(recorded, step) == train_epochs(written, plain)
    assert all(map(torch.equal, values(plain), values(step.step)))
    assert len(replayed) == 10 - eager - 2  # all steps but the first and, in each epoch, the last
    assert len({batch.sum().item() for batch in replayed}) == len(replayed)


def test_batch_of_another_scale_runs_as_written_where_only_its_hr_has_another_size():
    step = RecordedStep(lambda lr, hr: "written", "the step", 4)
    step.recordable, step.graph = False, "recorded"
    step.batch = [torch.zeros(4, 1, 8, 8), torch.zeros(4, 1, 32, 32)]
    assert step(torch.zeros(4, 1, 8, 8), torch.zeros(4, 1, 16, 16)) == "written"


def test_step_that_cannot_be_recorded_is_said_once_and_runs_as_written(monkeypatch, capsys):
    def graph(graph):
        raise RuntimeError("operation not permitted\nmore of it")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    written, other = random_run(), random_run()
    step = RecordedStep(TrainingStep(other), "the step", 4)
    assert train_epochs(other, step) == train_epochs(written, TrainingStep(written))
    assert capsys.readouterr().out.count("note: the step cannot be recorded") == 1


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("name", ["drcn"])  # whose network gives several outputs
def test_compiled_network_sees_the_whole_batches_and_trains_as_the_written_one(monkeypatch, name):
    written, run = random_run(name), random_run(name)
    sizes, compile = [], torch.compile

    def compiled(network, **settings):
        fused = compile(network, **settings)
        return lambda lr: sizes.append(len(lr)) or fused(lr)

    monkeypatch.setattr(torch, "compile", compiled)
    found = train_epochs(run, accelerate(TrainingStep(run), compiled=True))
    assert found == pytest.approx(train_epochs(written, TrainingStep(written)), rel=1e-4)
    assert sizes == 8 * [4]


def test_failure_to_compile_ends_in_one_line_and_leaves_nothing(script, workplace, tiny, monkeypatch):
    def failing(model, dynamic):
        def forward(lr):
            raise torch._dynamo.exc.TorchDynamoException("no C++ compiler")

        return forward

    monkeypatch.setattr(torch, "compile", failing)
    arguments = train_flags(tiny, *VDSR, "--compile", "--out", "run")
    assert refused(script, "train", arguments, "torch.compile", "leave out --compile", unchanged=workplace)


def test_compile_is_for_one_process(script, workplace, tiny, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    arguments = train_flags(tiny, *VDSR, "--compile", "--out", "run")
    assert refused(script, "train", arguments, "one process", "found 2", unchanged=workplace)
